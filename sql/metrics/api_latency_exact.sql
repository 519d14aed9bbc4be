-- API latency, exact
--
-- Latency percentiles of whole UTC days per route, from every request.
-- Grain: one row per UTC day and route. Units: milliseconds. Exact: sorted[ceil(q * n) - 1].
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/api_latency_daily.sql.
SELECT
  day,
  coalesce(route, 'unnamed') AS route,
  requests,
  errors,
  latency_p50_ms,
  latency_p95_ms,
  latency_p99_ms,
  latency_max_ms
FROM api_latency_daily
WHERE day >= CAST($from AS DATE)
  AND day < CAST($to AS DATE)
  AND ($route IS NULL OR route = $route)
ORDER BY day, route
