-- Retention by cohort
--
-- Of the people first seen in a period, those who came back in the nth period after it: in exactly that one, and in it or later.
-- Grain: one row per cohort and n, from 0 up to `periods` (30 if it is not given). Units: users; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/retention_cells.sql; the definition is PostHog's retention, first time.
SELECT
  period_label(cohort, $interval, $tz) AS cohort,
  cohort AS cohort_start,
  n,
  cohort_users,
  returned_on,
  returned_on_or_after,
  CAST(returned_on AS DOUBLE) / cohort_users AS rate_on,
  CAST(returned_on_or_after AS DOUBLE) / cohort_users AS rate_on_or_after,
  complete
FROM retention_cells
WHERE n <= coalesce($periods, 30) AND $interval IN ('week', 'day', 'month')
-- n + 0: the planner takes a cohort for unique, which it no longer is once its periods are listed.
ORDER BY cohort_start, n + 0
