-- Latency per hour, p95
--
-- Exact, from every request.
SELECT date_trunc('hour', event_time) AS hour, percentile_disc(latency_ms, 0.95) AS latency_p95_ms, count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors
FROM raw_api_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1
ORDER BY 1
