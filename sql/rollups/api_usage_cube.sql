-- Requests, errors and latency of the API by one dimension at a time, per 15 minutes and per day.
--
-- Grain: one row per cut and what it is by. `cut` names it: `all`, `route`, `method`, `status_class` and `service` are per 15 minutes
-- (`at`, their start, UTC), `day all`, `day route` and so on per UTC day (`at`, its start). The dimensions that a cut has not are NULL.
-- It holds nothing that sql/rollups/api_usage_15m.sql does not hold; sql/views/api_usage.sql takes the smallest cut.
-- Units: milliseconds. Lateness: as api_usage_15m.
SELECT
  CASE grouping(at) WHEN 1 THEN 'day ' ELSE '' END
    || CASE
      WHEN grouping(route) = 0 THEN 'route'
      WHEN grouping(method) = 0 THEN 'method'
      WHEN grouping(status_class) = 0 THEN 'status_class'
      WHEN grouping(service) = 0 THEN 'service'
      ELSE 'all'
    END AS cut,
  coalesce(at, CAST($day AS TIMESTAMP)) AS at,
  service,
  route,
  method,
  status_class,
  sum(requests) AS requests,
  sum(errors) AS errors,
  sum(client_errors) AS client_errors,
  max(latency_max_ms) AS latency_max_ms,
  sketch_merge(latency_sketch) AS latency_sketch
FROM api_usage_15m
WHERE day = $day
GROUP BY GROUPING SETS (
  (at), (at, route), (at, method), (at, status_class), (at, service),
  (), (route), (method), (status_class), (service)
)
HAVING count(*) > 0
