-- Latency
--
-- Over all routes, per hour in a report of up to two days, else per day; from merged sketches: within 1 %. Errors: status codes of 500
-- and above.
SELECT
  period_start(at, CASE WHEN $to > $from + INTERVAL '50 hours' THEN 'day' ELSE 'hour' END, $tz) AS begins,
  sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms,
  sketch_percentile(sketch_merge(latency_sketch), 0.5) AS latency_p50_ms,
  sketch_percentile(sketch_merge(latency_sketch), 0.99) AS latency_p99_ms,
  sum(requests) AS requests,
  sum(errors) AS errors,
  100.0 * sum(errors) / sum(requests) AS error_percent
FROM api_usage_cube
WHERE cut = 'all' AND day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to
GROUP BY 1
ORDER BY 1
