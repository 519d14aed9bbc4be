-- Active users by plan
--
-- Distinct users with an event in the editor, by the plan that their events tell; a user who changed plan counts in both.
SELECT coalesce(tier, 'unknown') AS plan, count(DISTINCT user_id) AS users, count(*) AS events
FROM raw_ide_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND user_id IS NOT NULL AND name IS DISTINCT FROM 'heartbeat'
GROUP BY 1
ORDER BY users DESC, plan
