-- Agent execution time
--
-- How long executions took. The mean is exact; percentiles come from merged sketches, within 1 % of sorted[ceil(q * n) - 1].
-- Grain: one row per period and breakdown. Units: milliseconds.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/agent_usage.sql. Exact in time zones whose offset is a whole number of quarter hours: all of today's.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  executions,
  duration_ms / nullif(executions, 0) AS duration_mean_ms,
  sketch_percentile(sketch, 0.5) AS duration_p50_ms,
  sketch_percentile(sketch, 0.95) AS duration_p95_ms,
  sketch_percentile(sketch, 0.99) AS duration_p99_ms,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'agent' THEN coalesce(agent, 'unnamed')
      WHEN 'model' THEN coalesce(model, 'unknown')
      WHEN 'tier' THEN coalesce(tier, 'unknown')
      WHEN 'status' THEN coalesce(status, 'unknown')
      ELSE 'all'
    END AS breakdown,
    sum(timed) AS executions,
    sum(duration_ms) AS duration_ms,
    sketch_merge(duration_sketch) AS sketch
  FROM agent_usage
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($agent IS NULL OR agent = $agent)
    AND ($model IS NULL OR model = $model)
  GROUP BY 1, 2
) AS periods
WHERE executions > 0
ORDER BY period_start, breakdown
