-- Recurring revenue over twelve months
--
-- What active paid subscriptions bring a month (MRR), at the end of each month; the last one at the end of the time. ARR is twelve
-- times that; per customer: MRR divided by the paying customers. Never added across currencies.
SELECT
  local_day(p.period_start, $tz) AS month,
  s.currency,
  CAST(sum(s.mrr_micros) AS DOUBLE) / 1000000.0 AS mrr_minor,
  CAST(12 * sum(s.mrr_micros) AS DOUBLE) / 1000000.0 AS arr_minor,
  count(DISTINCT s.account_id) AS customers,
  CAST(sum(s.mrr_micros) AS DOUBLE) / 1000000.0 / count(DISTINCT s.account_id) AS per_customer_minor
FROM (
  SELECT period_start, least(period_end(period_start, 'month', $tz), $to) AS period_end
  FROM (SELECT unnest(periods($to - INTERVAL '335 days', $to, 'month', $tz)) AS period_start) AS starts
) AS p
JOIN (SELECT * FROM subscription_states WHERE mrr_micros > 0) AS s
  ON s.valid_from < p.period_end AND (s.valid_to IS NULL OR s.valid_to >= p.period_end)
GROUP BY p.period_start, s.currency
ORDER BY month, s.currency
