-- API latency, live
--
-- Latency and errors of the last hour that had requests, minute by minute as they close, before the end of the time asked about;
-- `minutes` (60 if it is not given) says how many. Approximate: from merged sketches, within 1 % of sorted[ceil(q * n) - 1];
-- api_latency_exact has the exact percentiles of days.
-- Grain: one row per minute that had a request, and breakdown. Units: milliseconds; rates are fractions.
-- Lateness: one minute; what comes later is in api_usage_1m__late, and in the rollups.
-- Source: pipelines/api_usage_1m.sql.
SELECT
  minute,
  breakdown,
  requests,
  sketch_percentile(sketch, 0.5) AS latency_p50_ms,
  sketch_percentile(sketch, 0.95) AS latency_p95_ms,
  sketch_percentile(sketch, 0.99) AS latency_p99_ms,
  latency_max_ms,
  CAST(errors AS DOUBLE) / requests AS error_rate
FROM (
  SELECT
    u.window_start AS minute,
    CASE $breakdown
      WHEN 'route' THEN coalesce(u.route, 'unnamed')
      WHEN 'method' THEN coalesce(u.method, 'unknown')
      WHEN 'status_class' THEN coalesce(u.status_class, 'unknown')
      WHEN 'service' THEN coalesce(u.service, 'unknown')
      ELSE 'all'
    END AS breakdown,
    sum(u.requests) AS requests,
    sum(u.errors) AS errors,
    sketch_merge(u.latency_sketch) AS sketch,
    max(u.latency_max_ms) AS latency_max_ms
  FROM (
    SELECT max(window_start) AS newest FROM api_usage_1m
    WHERE day >= CAST($to - INTERVAL '2 days' AS DATE) AND day <= CAST($to AS DATE) AND window_start < $to
  ) AS last
  JOIN api_usage_1m AS u
    ON date_part('epoch', u.window_start) > date_part('epoch', last.newest) - coalesce($minutes, 60) * 60
  WHERE u.day >= CAST($to - INTERVAL '3 days' AS DATE)
    AND u.day <= CAST($to AS DATE)
    AND u.window_start < $to
    AND ($route IS NULL OR u.route = $route)
    AND ($service IS NULL OR u.service = $service)
  GROUP BY 1, 2
) AS minutes
ORDER BY minute, breakdown
