-- Latency of the API per hour, over all routes.
--
-- Grain: one row per UTC hour (`hour`, its start) that had a request. The p95 is exact over the hour: percentiles of quarter hours
-- cannot be added up to it.
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it. Units: milliseconds.
SELECT
  date_trunc('hour', event_time) AS hour,
  percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
  count(*) AS requests
FROM raw_api_events
WHERE day = $day
GROUP BY 1
