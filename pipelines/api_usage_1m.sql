-- Requests, errors and latency of the API per minute: what is known while the day goes on.
--
-- Grain: one row per minute (window_start inclusive, window_end exclusive, UTC), service, route, method and status class (2xx, ...).
-- Errors: status code 500 and above; client errors: 400 to 499. latency_sketch: a mergeable sketch, each quantile within 1 % of
-- sorted[ceil(q * n) - 1]; sketch_merge joins minutes and routes, whose percentiles must not be averaged.
-- Units: milliseconds. Lateness: one minute (pipelines/sources.sql). At night sql/rollups/api_latency_daily.sql is exact.
INSERT INTO api_usage_1m
SELECT
  w['start'] AS window_start,
  w['end'] AS window_end,
  service,
  route,
  method,
  status_class,
  requests,
  errors,
  client_errors,
  latency_max_ms,
  latency_sketch
FROM (
  SELECT
    tumble(INTERVAL '1 minute') AS w,
    service,
    route,
    method,
    CAST(status_code / 100 AS TEXT) || 'xx' AS status_class,
    count(*) AS requests,
    sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors,
    sum(CASE WHEN status_code >= 400 AND status_code < 500 THEN 1 ELSE 0 END) AS client_errors,
    max(latency_ms) AS latency_max_ms,
    sketch(latency_ms) AS latency_sketch
  FROM api_events
  GROUP BY 1, service, route, method, 5
);
