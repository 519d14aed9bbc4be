-- Revenue
--
-- Money that came in and was given back, without taxes.
-- Grain: one row per period and currency. Units: minor units of the currency (cents); refunds are not negative.
-- Lateness: none is lost: it reads every event.
-- Source: raw_payment_events.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  currency,
  CAST(paid AS DOUBLE) AS paid_minor,
  CAST(refunded AS DOUBLE) AS refunded_minor,
  CAST(paid - refunded AS DOUBLE) AS net_minor,
  payments,
  customers,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(event_time, $interval, $tz) AS period_start,
    coalesce(currency, '') AS currency,
    sum(CASE WHEN amount_minor > 0 THEN amount_minor ELSE 0 END) AS paid,
    sum(CASE WHEN amount_minor < 0 THEN -amount_minor ELSE 0 END) AS refunded,
    sum(CASE WHEN amount_minor > 0 THEN 1 ELSE 0 END) AS payments,
    count(DISTINCT account_id) AS customers
  FROM raw_payment_events
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND event_time >= $from
    AND event_time < $to
    AND $interval IN ('month', 'day', 'week', 'quarter', 'year', 'all')
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, currency
