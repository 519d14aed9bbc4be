-- Sessions of work in the editor per day.
--
-- Grain: one row per UTC day on which a session closed, which is 30 minutes after its last event.
-- A session of a single event counts, lasts 0 ms, and is a bounce.
-- Units: milliseconds. Percentiles are exact: sorted[ceil(q * n) - 1].
-- Source of the definition: pipelines/user_sessions.sql.
SELECT
  count(*) AS sessions,
  count(DISTINCT user_id) AS users,
  sum(events) AS events,
  sum(CASE WHEN events = 1 THEN 1 ELSE 0 END) AS bounces,
  sum(duration_ms) AS duration_total_ms,
  percentile_disc(duration_ms, 0.5) AS duration_p50_ms,
  percentile_disc(duration_ms, 0.9) AS duration_p90_ms
FROM user_sessions
WHERE day = $day
HAVING count(*) > 0
