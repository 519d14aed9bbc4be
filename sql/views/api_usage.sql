-- Requests of the API, as coarse as what is asked for allows.
--
-- Grain: 15 minutes (`at`, their start, UTC), and the whole days of the time asked about where it is one period ($interval is all),
-- with the dimension that $breakdown, $route and $service need; the others are NULL. Sums and merged sketches over [$from, $to) are
-- the same at every grain. Source: sql/rollups/api_usage_cube.sql, sql/rollups/api_usage_15m.sql.
SELECT at, service, route, method, status_class, requests, errors, client_errors, latency_max_ms, latency_sketch, day
FROM api_usage_cube
WHERE cut = CASE
    WHEN $route IS NULL AND $service IS NULL THEN CASE $breakdown WHEN '' THEN 'all' ELSE $breakdown END
    WHEN $service IS NULL AND $breakdown IN ('', 'route') THEN 'route'
    WHEN $route IS NULL AND $breakdown IN ('', 'service') THEN 'service'
  END
  AND at >= $from
  AND at < $to
  AND ($interval <> 'all' OR day < CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE) OR day >= CAST($to AS DATE))
UNION ALL
SELECT at, service, route, method, status_class, requests, errors, client_errors, latency_max_ms, latency_sketch, day
FROM api_usage_cube
WHERE cut = 'day ' || CASE
    WHEN $route IS NULL AND $service IS NULL THEN CASE $breakdown WHEN '' THEN 'all' ELSE $breakdown END
    WHEN $service IS NULL AND $breakdown IN ('', 'route') THEN 'route'
    WHEN $route IS NULL AND $breakdown IN ('', 'service') THEN 'service'
  END
  AND $interval = 'all'
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
UNION ALL
SELECT at, service, route, method, status_class, requests, errors, client_errors, latency_max_ms, latency_sketch, day
FROM api_usage_15m
WHERE ($route IS NOT NULL AND ($service IS NOT NULL OR $breakdown NOT IN ('', 'route'))
    OR $service IS NOT NULL AND $breakdown NOT IN ('', 'service'))
  AND at >= $from
  AND at < $to
