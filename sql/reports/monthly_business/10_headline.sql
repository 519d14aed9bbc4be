-- Revenue in numbers
--
-- One row of figures per currency; amounts are never added across currencies. MRR: what active paid subscriptions bring a month, at
-- the end of the time. Net revenue: payments less refunds. Paying customers: at the end. Customer churn: those who paid at the
-- start and no more at the end, of those who paid at the start.
SELECT
  coalesce(s.piece, p.piece) AS piece,
  coalesce(s.currency, p.currency) AS currency,
  coalesce(CAST(s.end_micros AS DOUBLE) / 1000000.0, 0.0) AS mrr_minor,
  coalesce(p.net, 0.0) AS net_revenue_minor,
  coalesce(s.customers_end, 0) AS paying_customers,
  100.0 * s.customers_churned / nullif(s.customers_start, 0) AS customer_churn_percent
FROM (
  SELECT
    piece,
    currency,
    sum(end_micros) AS end_micros,
    sum(CASE WHEN end_micros > 0 THEN 1 ELSE 0 END) AS customers_end,
    sum(CASE WHEN start_micros > 0 THEN 1 ELSE 0 END) AS customers_start,
    sum(CASE WHEN start_micros > 0 AND end_micros = 0 THEN 1 ELSE 0 END) AS customers_churned
  FROM (
    SELECT
      p.piece,
      s.account_id,
      s.currency,
      sum(CASE WHEN s.valid_from < p.piece AND (s.valid_to IS NULL OR s.valid_to >= p.piece) THEN s.mrr_micros ELSE 0 END) AS start_micros,
      sum(CASE WHEN s.valid_from < p.piece + $step AND (s.valid_to IS NULL OR s.valid_to >= p.piece + $step) THEN s.mrr_micros ELSE 0 END)
        AS end_micros
    FROM report_pieces AS p
    JOIN (SELECT * FROM subscription_states WHERE mrr_micros > 0) AS s
      ON s.valid_from < p.piece + $step AND (s.valid_to IS NULL OR s.valid_to >= p.piece)
    GROUP BY p.piece, s.account_id, s.currency
  ) AS customers
  GROUP BY piece, currency
) AS s
FULL JOIN (
  SELECT
    date_bin($step, CAST(event_time AS TIMESTAMP), $from) AS piece,
    coalesce(currency, '') AS currency,
    CAST(sum(amount_minor) AS DOUBLE) AS net
  FROM raw_payment_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  GROUP BY 1, 2
) AS p ON p.piece = s.piece AND p.currency = s.currency
ORDER BY piece, mrr_minor DESC, currency
