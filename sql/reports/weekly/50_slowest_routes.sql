-- Slowest routes
--
-- Every route by its p95 over the whole time, from merged sketches: within 1 %. Errors are status codes of 500 and above.
SELECT
  coalesce(route, 'unnamed') AS route,
  sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms,
  sum(requests) AS requests,
  sum(errors) AS errors
FROM api_totals
WHERE cut IN ('day route', 'route')
GROUP BY 1
ORDER BY latency_p95_ms DESC NULLS LAST, route
