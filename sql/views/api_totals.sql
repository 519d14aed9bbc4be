-- Requests of the API over [$from, $to), by one dimension at a time, in as few rows as there are.
--
-- Grain: whole UTC days, and quarter hours of the days that the ends cut through. `cut` says what the rows are by: `all`, `route`,
-- `method`, `status_class` or `service`; a query takes one of them. Sums and merged sketches are those of
-- sql/rollups/api_usage_15m.sql. Source: sql/rollups/api_usage_cube.sql.
SELECT
  replace(cut, 'day ', '') AS cut, at, service, route, method, status_class, requests, errors, client_errors, latency_max_ms,
  latency_sketch
FROM api_usage_cube
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND at >= $from
  AND at < $to
  AND (cut LIKE 'day %') = (CAST(day AS TIMESTAMP) >= $from AND CAST(day AS TIMESTAMP) + INTERVAL '1 day' <= $to)
