-- Active users by country
--
-- Distinct users with an event in the editor, by the country that the edge told. Users without one are 'unknown'.
SELECT coalesce(country, 'unknown') AS country, count(DISTINCT user_id) AS users
FROM raw_ide_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND user_id IS NOT NULL AND name IS DISTINCT FROM 'heartbeat'
GROUP BY 1
ORDER BY users DESC, country
