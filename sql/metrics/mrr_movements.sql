-- Movements of monthly recurring revenue
--
-- What was added and lost: new customers, expansion, contraction, churn, reactivation. Contraction and churn are not negative.
-- difference_minor is end - (start + new + expansion + reactivation - contraction - churn): 0, or something is wrong.
-- Grain: one row per period and currency. Units: minor units of the currency (cents).
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/mrr_periods.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  currency,
  CAST(start_micros AS DOUBLE) / 1000000.0 AS start_minor,
  CAST(new_micros AS DOUBLE) / 1000000.0 AS new_minor,
  CAST(expansion_micros AS DOUBLE) / 1000000.0 AS expansion_minor,
  CAST(contraction_micros AS DOUBLE) / 1000000.0 AS contraction_minor,
  CAST(churn_micros AS DOUBLE) / 1000000.0 AS churn_minor,
  CAST(reactivation_micros AS DOUBLE) / 1000000.0 AS reactivation_minor,
  CAST(end_micros AS DOUBLE) / 1000000.0 AS end_minor,
  CAST(
    end_micros - (start_micros + new_micros + expansion_micros + reactivation_micros - contraction_micros - churn_micros) AS DOUBLE
  ) / 1000000.0 AS difference_minor,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM mrr_periods
WHERE period_start >= period_start($from, $interval, $tz) AND $interval IN ('month', 'day', 'week', 'quarter', 'year')
ORDER BY period_start, currency
