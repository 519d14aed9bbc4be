-- API latency, p95
--
-- The latency that 95 of 100 requests do not exceed, over all routes, per hour. Exact, from every request.
-- Grain: one row per UTC hour that had a request; first and last hour are partial when $from and $to are not full hours.
-- Units: milliseconds.
SELECT
  date_trunc('hour', event_time) AS hour,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  count(*) AS requests
FROM raw_api_events
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND event_time >= $from
  AND event_time < $to
GROUP BY 1
ORDER BY 1
