-- Monthly recurring revenue at both ends of each period, and what moved it.
--
-- Grain: one row per period of $interval and currency. Ends are snapshots of the subscriptions; movements come from the changes,
-- so that start + new + expansion + reactivation - contraction - churn = end is a check and no definition.
-- Units: millionths of the currency's minor unit. Source: sql/views/customer_periods.sql, sql/views/mrr_changes.sql.
SELECT
  c.period_start,
  c.currency,
  c.start_micros,
  c.end_micros,
  c.customers_start,
  c.customers_end,
  c.customers_churned,
  coalesce(m.new_micros, 0) AS new_micros,
  coalesce(m.expansion_micros, 0) AS expansion_micros,
  coalesce(m.contraction_micros, 0) AS contraction_micros,
  coalesce(m.churn_micros, 0) AS churn_micros,
  coalesce(m.reactivation_micros, 0) AS reactivation_micros
FROM (
  SELECT
    period_start,
    currency,
    sum(start_micros) AS start_micros,
    sum(end_micros) AS end_micros,
    sum(CASE WHEN start_micros > 0 THEN 1 ELSE 0 END) AS customers_start,
    sum(CASE WHEN end_micros > 0 THEN 1 ELSE 0 END) AS customers_end,
    sum(CASE WHEN start_micros > 0 AND end_micros = 0 THEN 1 ELSE 0 END) AS customers_churned
  FROM customer_periods
  GROUP BY period_start, currency
) AS c
LEFT JOIN (
  SELECT
    period_start(at, $interval, $tz) AS period_start,
    currency,
    sum(CASE WHEN kind = 'new' THEN change_micros ELSE 0 END) AS new_micros,
    sum(CASE WHEN kind = 'expansion' THEN change_micros ELSE 0 END) AS expansion_micros,
    sum(CASE WHEN kind = 'contraction' THEN -change_micros ELSE 0 END) AS contraction_micros,
    sum(CASE WHEN kind = 'churn' THEN -change_micros ELSE 0 END) AS churn_micros,
    sum(CASE WHEN kind = 'reactivation' THEN change_micros ELSE 0 END) AS reactivation_micros
  FROM mrr_changes
  GROUP BY 1, 2
) AS m ON m.period_start = c.period_start AND m.currency = c.currency
