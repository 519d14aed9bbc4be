-- Recurring revenue and what moved it
--
-- Monthly recurring revenue (MRR) at the end and at the start, and the movements between: new customers, expansion, contraction,
-- churn, reactivation; start + new + expansion + reactivation - contraction - churn = end. In units of each currency; never
-- added across currencies. Source: sql/views/mrr_periods.sql.
SELECT
  currency,
  CAST(end_micros AS DOUBLE) / 100000000.0 AS mrr_at_end,
  CAST(start_micros AS DOUBLE) / 100000000.0 AS mrr_at_start,
  CAST(new_micros AS DOUBLE) / 100000000.0 AS new_customers,
  CAST(expansion_micros AS DOUBLE) / 100000000.0 AS expansion,
  CAST(contraction_micros AS DOUBLE) / 100000000.0 AS contraction,
  CAST(churn_micros AS DOUBLE) / 100000000.0 AS churn,
  CAST(reactivation_micros AS DOUBLE) / 100000000.0 AS reactivation
FROM mrr_periods
WHERE period_start >= period_start($from, $interval, $tz) AND period_start < $to
ORDER BY mrr_at_end DESC, currency
