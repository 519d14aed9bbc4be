-- API latency, p95
--
-- The latency that 95 of 100 requests do not exceed, over all routes, per hour. Exact, from every request.
-- Grain: one row per UTC hour that had a request; first and last hour are partial when $from and $to are not full hours.
-- Units: milliseconds. Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/api_latency_hourly.sql; of hours that $from and $to cut through, raw_api_events.
SELECT hour, latency_p95_ms, requests
FROM api_latency_hourly
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND hour >= $from
  AND hour + INTERVAL '1 hour' <= $to
UNION ALL
SELECT date_trunc('hour', event_time) AS hour, percentile_disc(latency_ms, 0.95) AS latency_p95_ms, count(*) AS requests
FROM raw_api_events
WHERE event_time >= $from
  AND event_time < $to
  AND (day = CAST($from AS DATE) AND date_trunc('hour', $from) < $from OR day = CAST($to AS DATE) AND date_trunc('hour', $to) < $to)
  AND (date_trunc('hour', $from) < $from AND event_time < date_trunc('hour', $from) + INTERVAL '1 hour'
    OR event_time >= date_trunc('hour', $to))
GROUP BY 1
ORDER BY hour
