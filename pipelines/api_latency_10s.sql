-- Latency and errors of the API per 10 seconds and route.
--
-- Grain: one row per 10 s (window_start inclusive, window_end exclusive, UTC) and route that had a request.
-- Latency: of the server, from the request's first byte to the answer's last; requests without one count as requests only.
-- Errors: status code 500 and above; client errors: 400 to 499.
-- Units: milliseconds. Lateness: one minute (pipelines/sources.sql).
-- Percentiles are exact and must not be averaged: sorted[ceil(q * n) - 1] of the window.
INSERT INTO api_latency_10s
SELECT
  w['start'] AS window_start,
  w['end'] AS window_end,
  route,
  requests,
  errors,
  client_errors,
  latency_p50_ms,
  latency_p95_ms,
  latency_p99_ms,
  latency_max_ms
FROM (
  SELECT
    tumble(INTERVAL '10 seconds') AS w,
    route,
    count(*) AS requests,
    sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors,
    sum(CASE WHEN status_code >= 400 AND status_code < 500 THEN 1 ELSE 0 END) AS client_errors,
    percentile_disc(latency_ms, 0.5) AS latency_p50_ms,
    percentile_disc(latency_ms, 0.95) AS latency_p95_ms,
    percentile_disc(latency_ms, 0.99) AS latency_p99_ms,
    max(latency_ms) AS latency_max_ms
  FROM api_events
  GROUP BY 1, route
);
