-- Error budget
--
-- How fast the allowed errors are used up: the error rate divided by the one that the objective allows (`slo`, 0.999 if it is not
-- given). 1 uses the budget up exactly; above 14.4 over an hour is worth waking somebody.
-- Grain: one row per window of 1, 6 and 24 hours that ends with the last quarter of an hour in which there were requests, before the
-- end of the time asked about. Units: requests; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/api_usage_cube.sql; the method is the SRE workbook's burn rate.
WITH usage AS (
  SELECT date_part('epoch', at) AS at, requests, errors
  FROM api_usage_cube
  WHERE cut = 'all' AND day >= CAST($to - INTERVAL '48 hours' AS DATE) AND day <= CAST($to AS DATE) AND at < $to
)
SELECT
  w.hours,
  sum(u.requests) AS requests,
  sum(u.errors) AS errors,
  CAST(sum(u.errors) AS DOUBLE) / nullif(sum(u.requests), 0) AS error_rate,
  CAST(sum(u.errors) AS DOUBLE) / nullif(sum(u.requests), 0) / (1.0 - coalesce($slo, 0.999)) AS burn_rate
FROM (VALUES (1), (6), (24)) AS w (hours)
CROSS JOIN (SELECT max(at) + 900 AS ends FROM usage) AS newest
JOIN usage AS u ON u.at >= newest.ends - w.hours * 3600
GROUP BY w.hours
ORDER BY w.hours
