-- What each paying customer paid monthly when a period began and when it ended.
--
-- Grain: one row per period of $interval from seven months before $from until $to, account and currency that paid at either end.
-- Units: millionths of the currency's minor unit. Source: sql/views/subscription_states.sql.
SELECT
  p.period_start,
  s.account_id,
  s.currency,
  sum(CASE WHEN s.valid_from < p.period_start AND (s.valid_to IS NULL OR s.valid_to >= p.period_start) THEN s.mrr_micros ELSE 0 END)
    AS start_micros,
  sum(CASE WHEN s.valid_from < p.period_end AND (s.valid_to IS NULL OR s.valid_to >= p.period_end) THEN s.mrr_micros ELSE 0 END)
    AS end_micros
FROM (
  SELECT period_start, period_end(period_start, $interval, $tz) AS period_end
  FROM (
    SELECT unnest(periods(
      CASE $interval WHEN 'month' THEN $from - INTERVAL '214 days' ELSE $from END, $to, $interval, $tz)) AS period_start
  ) AS starts
) AS p
JOIN (SELECT * FROM subscription_states WHERE mrr_micros > 0) AS s
  ON s.valid_from < p.period_end AND (s.valid_to IS NULL OR s.valid_to >= p.period_start)
GROUP BY 1, 2, 3
