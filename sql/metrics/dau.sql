-- Daily active users
--
-- Users with at least one event in the editor other than a heartbeat, per UTC day; events without a user_id are not counted.
-- Grain: one row per day that had such an event. Units: users.
-- The first and the last day are partial when $from and $to are not midnights.
-- Source of the definition: "unique users" of PostHog's trends.
SELECT
  day,
  count(DISTINCT user_id) AS users
FROM raw_ide_events
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND event_time >= $from
  AND event_time < $to
  AND user_id IS NOT NULL
  AND name IS DISTINCT FROM 'heartbeat'
GROUP BY day
ORDER BY day
