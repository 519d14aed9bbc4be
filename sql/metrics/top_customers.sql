-- Top customers
--
-- Accounts by what they paid net in the time asked about.
-- Grain: one row per account and currency, highest first. Units: minor units of the currency (cents).
-- Lateness: none is lost: it reads every event.
-- Source: raw_payment_events.
SELECT
  account_id,
  coalesce(currency, '') AS currency,
  CAST(sum(amount_minor) AS DOUBLE) AS net_minor,
  sum(CASE WHEN amount_minor > 0 THEN 1 ELSE 0 END) AS payments,
  min(event_time) AS first_payment,
  max(event_time) AS last_payment
FROM raw_payment_events
WHERE day >= CAST($from AS DATE)
  AND day <= CAST($to AS DATE)
  AND event_time >= $from
  AND event_time < $to
  AND account_id IS NOT NULL
GROUP BY 1, 2
ORDER BY net_minor DESC, account_id, currency
