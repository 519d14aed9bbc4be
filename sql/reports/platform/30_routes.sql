-- Each route
--
-- Latency exact over the whole time; errors: status codes of 500 and above; client errors: 400 to 499.
SELECT
  coalesce(route, 'unnamed') AS route,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  percentile_disc(latency_ms, 0.5) AS latency_p50_ms,
  percentile_disc(latency_ms, 0.99) AS latency_p99_ms,
  count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors,
  sum(CASE WHEN status_code >= 400 AND status_code < 500 THEN 1 ELSE 0 END) AS client_errors
FROM raw_api_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1
ORDER BY latency_p95_ms DESC NULLS LAST, route
