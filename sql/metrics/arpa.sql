-- Average revenue per account
--
-- Monthly recurring revenue per paying customer at the period's end; none where nobody pays.
-- Grain: one row per period and currency. Units: minor units of the currency (cents).
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/mrr_periods.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  currency,
  CAST(end_micros AS DOUBLE) / 1000000.0 / nullif(customers_end, 0) AS arpa_minor,
  customers_end AS customers,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM mrr_periods
WHERE period_start >= period_start($from, $interval, $tz) AND $interval IN ('month', 'day', 'week', 'quarter', 'year')
ORDER BY period_start, currency
