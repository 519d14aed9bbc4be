-- Active users per day
--
-- Distinct users with at least one event in the editor other than a heartbeat, per UTC day.
SELECT day, count(DISTINCT user_id) AS users, count(*) AS events
FROM raw_ide_events
WHERE day >= CAST($from AS DATE)
  AND event_time >= $from
  AND event_time < $to
  AND user_id IS NOT NULL
  AND name IS DISTINCT FROM 'heartbeat'
GROUP BY day
ORDER BY day
