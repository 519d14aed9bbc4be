-- Sessions
--
-- Sessions of work in the editor that ended in the period: events of one user with less than 30 minutes between neighbours, cut
-- after 24 hours. A session of a single event lasts 0 ms and is a bounce.
-- Grain: one row per period. Units: milliseconds; percentiles are exact: sorted[ceil(q * n) - 1].
-- Lateness: one minute; a session appears when it is over. Source: sql/views/session_pieces.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  sessions,
  users,
  duration_mean_ms,
  duration_p50_ms,
  duration_p90_ms,
  bounces,
  CAST(bounces AS DOUBLE) / sessions AS bounce_share,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(last_event, $interval, $tz) AS period_start,
    count(*) AS sessions,
    count(DISTINCT user_id) AS users,
    CAST(sum(duration_ms) AS DOUBLE) / count(*) AS duration_mean_ms,
    CAST(percentile_disc(duration_ms, 0.5) AS DOUBLE) AS duration_p50_ms,
    CAST(percentile_disc(duration_ms, 0.9) AS DOUBLE) AS duration_p90_ms,
    sum(CASE WHEN bounce THEN 1 ELSE 0 END) AS bounces
  FROM session_pieces
  WHERE day >= CAST($from AS DATE)
    AND last_event >= $from
    AND last_event < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
  GROUP BY 1
) AS periods
ORDER BY period_start
