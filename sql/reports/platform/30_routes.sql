-- Each route
--
-- Over the whole time, from merged sketches: within 1 %. Errors: status codes of 500 and above; client errors: 400 to 499.
SELECT
  coalesce(route, 'unnamed') AS route,
  sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms,
  sketch_percentile(sketch_merge(latency_sketch), 0.5) AS latency_p50_ms,
  sketch_percentile(sketch_merge(latency_sketch), 0.99) AS latency_p99_ms,
  sum(requests) AS requests,
  sum(errors) AS errors,
  sum(client_errors) AS client_errors
FROM api_totals
WHERE cut IN ('day route', 'route')
GROUP BY 1
ORDER BY latency_p95_ms DESC NULLS LAST, route
