-- Slowest routes
--
-- The ten routes with the greatest p95, exact over the whole time; errors are status codes of 500 and above.
SELECT
  coalesce(route, 'unnamed') AS route,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors
FROM raw_api_events
WHERE day >= CAST($from AS DATE)
  AND event_time >= $from
  AND event_time < $to
GROUP BY 1
ORDER BY latency_p95_ms DESC NULLS LAST, route
LIMIT 10
