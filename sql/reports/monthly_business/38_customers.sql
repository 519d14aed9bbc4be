-- Largest customers
--
-- Accounts by what they paid in the time, less refunds. Twenty of each currency.
SELECT account_id AS account, currency, net_minor, payments
FROM (
  SELECT
    account_id,
    coalesce(currency, '') AS currency,
    CAST(sum(amount_minor) AS DOUBLE) AS net_minor,
    sum(CASE WHEN amount_minor > 0 THEN 1 ELSE 0 END) AS payments,
    row_number() OVER (PARTITION BY coalesce(currency, '') ORDER BY sum(amount_minor) DESC, account_id) AS place
  FROM raw_payment_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND account_id IS NOT NULL
  GROUP BY 1, 2
) AS accounts
WHERE place <= 20
ORDER BY currency DESC, net_minor DESC, account
