-- Churn
--
-- Customers who paid at the period's start and no more at its end, as a share of those at the start. Gross: revenue lost to churn
-- and contraction; net: less what expansion and reactivation brought (may be negative); retention is 1 - net.
-- Grain: one row per period and currency. Units: customers; rates are fractions, none where nobody paid at the start.
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/mrr_periods.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  currency,
  customers_start,
  customers_churned,
  CAST(customers_churned AS DOUBLE) / nullif(customers_start, 0) AS customer_churn_rate,
  CAST(churn_micros + contraction_micros AS DOUBLE) / nullif(start_micros, 0) AS gross_mrr_churn_rate,
  CAST(churn_micros + contraction_micros - expansion_micros - reactivation_micros AS DOUBLE) / nullif(start_micros, 0)
    AS net_mrr_churn_rate,
  1.0 - CAST(churn_micros + contraction_micros - expansion_micros - reactivation_micros AS DOUBLE) / nullif(start_micros, 0)
    AS net_revenue_retention,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM mrr_periods
WHERE period_start >= period_start($from, $interval, $tz) AND $interval IN ('month', 'day', 'week', 'quarter', 'year')
ORDER BY period_start, currency
