-- API latency
--
-- Latency that 50, 95 and 99 of 100 requests do not exceed: of the server, from the first byte to the last. From merged sketches,
-- within 1 % of sorted[ceil(q * n) - 1]; api_latency_exact has the exact ones of closed UTC days.
-- Grain: one row per period and breakdown. Units: milliseconds.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/api_usage.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  requests,
  sketch_percentile(sketch, 0.5) AS latency_p50_ms,
  sketch_percentile(sketch, 0.95) AS latency_p95_ms,
  sketch_percentile(sketch, 0.99) AS latency_p99_ms,
  latency_max_ms,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'route' THEN coalesce(route, 'unnamed')
      WHEN 'method' THEN coalesce(method, 'unknown')
      WHEN 'status_class' THEN coalesce(status_class, 'unknown')
      WHEN 'service' THEN coalesce(service, 'unknown')
      ELSE 'all'
    END AS breakdown,
    sum(requests) AS requests,
    sketch_merge(latency_sketch) AS sketch,
    max(latency_max_ms) AS latency_max_ms
  FROM api_usage
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($route IS NULL OR route = $route)
    AND ($service IS NULL OR service = $service)
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, breakdown
