-- Requests of the API over [$from, $to), by one dimension at a time, in as few rows as there are.
--
-- Grain: whole UTC days, and quarter hours of the days that the ends cut through. A query takes one dimension by its two cuts, such as
-- cut IN ('day route', 'route'). Sums and merged sketches are those of sql/rollups/api_usage_15m.sql.
-- Source: sql/rollups/api_usage_cube.sql.
SELECT
  cut, at, service, route, method, status_class, requests, errors, client_errors, latency_max_ms, latency_sketch
FROM api_usage_cube
WHERE cut LIKE 'day %'
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
UNION ALL
SELECT
  cut, at, service, route, method, status_class, requests, errors, client_errors, latency_max_ms, latency_sketch
FROM api_usage_cube
WHERE cut NOT LIKE 'day %'
  AND day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND (day < CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE) OR day >= CAST($to AS DATE))
  AND at >= $from
  AND at < $to
