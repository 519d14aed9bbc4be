-- Revenue per day
--
-- Payments less refunds, by the day of the payment. Without taxes; never added across currencies.
SELECT
  local_day(event_time, $tz) AS day,
  coalesce(currency, '') AS currency,
  CAST(sum(amount_minor) AS DOUBLE) AS net_minor,
  CAST(sum(CASE WHEN amount_minor > 0 THEN amount_minor ELSE 0 END) AS DOUBLE) AS paid_minor,
  CAST(sum(CASE WHEN amount_minor < 0 THEN -amount_minor ELSE 0 END) AS DOUBLE) AS refunded_minor,
  sum(CASE WHEN amount_minor > 0 THEN 1 ELSE 0 END) AS payments
FROM raw_payment_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1, 2
ORDER BY day, currency
