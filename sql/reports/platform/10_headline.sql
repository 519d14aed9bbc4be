-- The platform in numbers
--
-- Latency: of the server, exact over all requests. Errors: status codes of 500 and above, in percent of requests.
SELECT
  count(*) AS requests,
  percentile_disc(latency_ms, 0.5) AS latency_p50_ms,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  percentile_disc(latency_ms, 0.99) AS latency_p99_ms,
  100.0 * sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) / nullif(count(*), 0) AS error_percent
FROM raw_api_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
