-- API latency per day
--
-- p95 over all routes, exact; errors are answers with a status code of 500 and above. UTC days.
SELECT
  day,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors
FROM raw_api_events
WHERE day >= CAST($from AS DATE)
  AND event_time >= $from
  AND event_time < $to
GROUP BY day
ORDER BY day
