-- API errors
--
-- Requests that the server failed (status code 500 and above) and that clients got wrong (400 to 499), as shares of all.
-- Grain: one row per period and breakdown. Units: requests; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/api_usage.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  requests,
  errors,
  client_errors,
  CAST(errors AS DOUBLE) / nullif(requests, 0) AS error_rate,
  CAST(client_errors AS DOUBLE) / nullif(requests, 0) AS client_error_rate,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'route' THEN coalesce(route, 'unnamed')
      WHEN 'method' THEN coalesce(method, 'unknown')
      WHEN 'status_class' THEN coalesce(status_class, 'unknown')
      WHEN 'service' THEN coalesce(service, 'unknown')
      ELSE 'all'
    END AS breakdown,
    sum(requests) AS requests,
    sum(errors) AS errors,
    sum(client_errors) AS client_errors
  FROM api_usage
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($route IS NULL OR route = $route)
    AND ($service IS NULL OR service = $service)
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, breakdown
