-- What each customer paid monthly at $from and at $to.
--
-- Grain: one row per account and currency that paid at either end. Units: millionths of the currency's minor unit.
-- Source: sql/views/subscription_states.sql.
SELECT
  account_id,
  currency,
  sum(CASE WHEN valid_from < $from AND (valid_to IS NULL OR valid_to >= $from) THEN mrr_micros ELSE 0 END) AS start_micros,
  sum(CASE WHEN valid_from < $to AND (valid_to IS NULL OR valid_to >= $to) THEN mrr_micros ELSE 0 END) AS end_micros
FROM subscription_states
WHERE mrr_micros > 0 AND valid_from < $to AND (valid_to IS NULL OR valid_to >= $from)
GROUP BY account_id, currency
