-- Retention
--
-- Of the people first seen in the time asked about, those who came back on the 1st, 7th and 30th day after: on exactly that day,
-- and on it or later. Weighted: sums over the cohorts whose day has passed, not a mean of their rates; rate_on_simple is that mean.
-- Grain: one row per n (days). Units: users; rates are fractions. "On or after" may still grow.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/retention_cells.sql; the definition is PostHog's retention, first time, weighted.
SELECT
  n,
  CAST(sum(cohort_users) AS BIGINT) AS cohort_users,
  CAST(sum(returned_on) AS BIGINT) AS returned_on,
  CAST(sum(returned_on_or_after) AS BIGINT) AS returned_on_or_after,
  CAST(sum(returned_on) AS DOUBLE) / sum(cohort_users) AS rate_on,
  CAST(sum(returned_on_or_after) AS DOUBLE) / sum(cohort_users) AS rate_on_or_after,
  avg(CAST(returned_on AS DOUBLE) / cohort_users) AS rate_on_simple
FROM retention_cells
WHERE n IN (1, 7, 30) AND complete AND $interval IN ('day')
GROUP BY n
ORDER BY n
