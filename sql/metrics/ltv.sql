-- Customer lifetime value
--
-- Average revenue per account at the month's end, divided by the mean customer churn rate of the six months before (this one is
-- left out). None, with the reason, where there was no churn or nobody paid: never infinity.
-- `gross_margin`, a fraction (1 if it is not given), takes the cost of serving off.
-- Grain: one row per month and currency. Units: minor units of the currency (cents).
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/mrr_periods.sql; the definition is ChartMogul's LTV.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  currency,
  arpa_minor,
  churn_rate AS customer_churn_rate_6m,
  CASE WHEN churn_rate > 0 THEN coalesce($gross_margin, 1.0) * arpa_minor / churn_rate END AS ltv_minor,
  CASE
    WHEN arpa_minor IS NULL THEN 'nobody pays'
    WHEN churn_rate IS NULL THEN 'nobody paid in the six months before'
    WHEN churn_rate = 0 THEN 'nobody churned in the six months before'
  END AS reason,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start,
    currency,
    CAST(end_micros AS DOUBLE) / 1000000.0 / nullif(customers_end, 0) AS arpa_minor,
    avg(CAST(customers_churned AS DOUBLE) / nullif(customers_start, 0))
      OVER (PARTITION BY currency ORDER BY period_start ROWS BETWEEN 6 PRECEDING AND 1 PRECEDING) AS churn_rate
  FROM mrr_periods
) AS months
WHERE period_start >= period_start($from, $interval, $tz) AND $interval IN ('month')
ORDER BY period_start, currency
