-- Requests, errors and latency of the API per 15 minutes: the grain of which every hour and day of any time zone is made.
--
-- Grain: one row per 15 minutes (`at`, their start, UTC), service, route, method and status class (2xx, 4xx, ...).
-- Errors: status code 500 and above; client errors: 400 to 499. latency_sketch: a mergeable sketch, each quantile within 1 %.
-- Units: milliseconds. Lateness: none is lost; a day runs again when late events changed it.
SELECT
  date_bin(INTERVAL '15 minutes', event_time, TIMESTAMP '1970-01-01T00:00:00') AS at,
  service,
  route,
  method,
  CAST(status_code / 100 AS TEXT) || 'xx' AS status_class,
  count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors,
  sum(CASE WHEN status_code >= 400 AND status_code < 500 THEN 1 ELSE 0 END) AS client_errors,
  max(latency_ms) AS latency_max_ms,
  sketch(latency_ms) AS latency_sketch
FROM raw_api_events
WHERE day = $day
GROUP BY 1, service, route, method, 5
