-- API latency, exact
--
-- Latency percentiles of whole UTC days, from every request; a day that is not complete holds what came so far. Days are UTC in
-- every time zone, since exact percentiles cannot be put together from others.
-- Grain: one row per UTC day, over all routes or by route. Units: milliseconds. Exact: sorted[ceil(q * n) - 1].
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/api_latency_total_daily.sql, sql/rollups/api_latency_daily.sql.
SELECT
  day,
  breakdown,
  requests,
  errors,
  latency_p50_ms,
  latency_p95_ms,
  latency_p99_ms,
  latency_max_ms,
  CAST(day AS TIMESTAMP) + INTERVAL '1 day' <= $complete_through AS complete
FROM (
  SELECT
    day,
    CASE $breakdown WHEN 'route' THEN coalesce(route, 'unnamed') ELSE 'all' END AS breakdown,
    requests, errors, latency_p50_ms, latency_p95_ms, latency_p99_ms, latency_max_ms
  FROM api_latency_daily
  WHERE day >= CAST($from AS DATE) AND day < CAST($to AS DATE)
    AND ($breakdown = 'route' OR $route IS NOT NULL)
    AND ($route IS NULL OR route = $route)
  UNION ALL
  SELECT day, 'all', requests, errors, latency_p50_ms, latency_p95_ms, latency_p99_ms, latency_max_ms
  FROM api_latency_total_daily
  WHERE day >= CAST($from AS DATE) AND day < CAST($to AS DATE) AND $breakdown <> 'route' AND $route IS NULL
) AS days
ORDER BY day, breakdown
