-- Sessions per day
--
-- Sessions of work in the editor by the day on which they ended: 30 minutes without an event end one, and none is longer than
-- 24 hours. A session of a single event is a bounce and lasts no time.
SELECT
  local_day(last_event, $tz) AS day,
  count(*) AS sessions,
  count(DISTINCT user_id) AS users,
  sum(CASE WHEN bounce THEN 1 ELSE 0 END) AS bounces,
  percentile_disc(duration_ms, 0.5) / 60000.0 AS duration_p50_minutes,
  percentile_disc(duration_ms, 0.9) / 60000.0 AS duration_p90_minutes
FROM session_pieces
WHERE day >= CAST($from AS DATE)
  AND last_event >= $from
  AND last_event < $to
GROUP BY 1
ORDER BY 1
