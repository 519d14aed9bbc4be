-- API latency per day
--
-- Over all routes, from merged sketches: within 1 %. Errors are answers with a status code of 500 and above.
SELECT
  local_day(at, $tz) AS day,
  sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms,
  sketch_percentile(sketch_merge(latency_sketch), 0.5) AS latency_p50_ms,
  sketch_percentile(sketch_merge(latency_sketch), 0.99) AS latency_p99_ms,
  sum(requests) AS requests,
  sum(errors) AS errors
FROM api_usage_cube
WHERE cut = 'all' AND day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to
GROUP BY 1
ORDER BY 1
