-- Error budget
--
-- How fast the allowed errors are used up at the end of the time asked about: the error rate divided by the one that the objective
-- allows (`slo`, 0.999 if it is not given). 1 uses the budget up exactly; above 14.4 over an hour is worth waking somebody.
-- Grain: one row per window of 1, 6 and 24 hours. Units: requests; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/api_usage_15m.sql; the method is the SRE workbook's burn rate.
SELECT
  w.hours,
  sum(u.requests) AS requests,
  sum(u.errors) AS errors,
  CAST(sum(u.errors) AS DOUBLE) / nullif(sum(u.requests), 0) AS error_rate,
  CAST(sum(u.errors) AS DOUBLE) / nullif(sum(u.requests), 0) / (1.0 - coalesce($slo, 0.999)) AS burn_rate
FROM (VALUES (1), (6), (24)) AS w (hours)
JOIN (
  SELECT at, requests, errors
  FROM api_usage_15m
  WHERE day >= CAST($to - INTERVAL '24 hours' AS DATE) AND day <= CAST($to AS DATE) AND at < $to
) AS u ON date_part('epoch', u.at) >= date_part('epoch', $to) - w.hours * 3600
GROUP BY w.hours
ORDER BY w.hours
