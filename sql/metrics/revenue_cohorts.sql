-- Revenue by cohort
--
-- Accounts by the period of their first payment ever, those of them that paid in the nth period after, and what they paid net.
-- Grain: one row per cohort, currency and n that had a payment or refund. Units: accounts, minor units of the currency.
-- Lateness: none is lost: it reads every event.
-- Source: raw_payment_events.
WITH payments AS (
  SELECT account_id, coalesce(currency, '') AS currency, event_time AS at, amount_minor
  FROM raw_payment_events
  WHERE account_id IS NOT NULL
),
cohorts AS (
  SELECT account_id, currency, period_start(min(at), $interval, $tz) AS cohort
  FROM payments
  GROUP BY account_id, currency
  HAVING min(at) >= $from AND min(at) < $to
),
cells AS (
  SELECT
    c.cohort,
    c.currency,
    periods_between(c.cohort, p.at, $interval, $tz) AS n,
    count(DISTINCT p.account_id) AS accounts,
    sum(p.amount_minor) AS net
  FROM cohorts AS c
  JOIN payments AS p ON p.account_id = c.account_id AND p.currency = c.currency
  WHERE $interval IN ('month', 'week', 'quarter', 'year')
  GROUP BY 1, 2, 3
)
SELECT
  period_label(cells.cohort, $interval, $tz) AS cohort,
  cells.cohort AS cohort_start,
  cells.n,
  cells.currency,
  sizes.accounts AS cohort_accounts,
  cells.accounts,
  CAST(cells.net AS DOUBLE) AS net_minor,
  CAST(sum(cells.net) OVER (PARTITION BY cells.cohort, cells.currency ORDER BY cells.n) AS DOUBLE) AS net_cumulative_minor,
  period_end(cells.cohort, $interval, $tz) <= $complete_through AS complete
FROM cells
JOIN (SELECT cohort, currency, count(*) AS accounts FROM cohorts GROUP BY cohort, currency) AS sizes
  ON sizes.cohort = cells.cohort AND sizes.currency = cells.currency
ORDER BY cohort_start, currency, n
