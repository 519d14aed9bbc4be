-- Latency and errors of the API per day, over all routes.
--
-- Grain: one row per UTC day that had a request. Columns as in sql/rollups/api_latency_daily.sql, whose percentiles cannot be
-- added up to these.
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it.
-- Units: milliseconds. Percentiles are exact over the day.
SELECT
  count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors,
  sum(CASE WHEN status_code >= 400 AND status_code < 500 THEN 1 ELSE 0 END) AS client_errors,
  percentile_disc(latency_ms, 0.5) AS latency_p50_ms,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  percentile_disc(latency_ms, 0.99) AS latency_p99_ms,
  max(latency_ms) AS latency_max_ms
FROM raw_api_events
WHERE day = $day
HAVING count(*) > 0
