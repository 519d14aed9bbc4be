-- Accounts by plan
--
-- Accounts with a subscription in force at the period's end, by plan; those on trial are `trial`. An account with two plans counts
-- in both.
-- Grain: one row per period, plan and currency ('' where nothing is paid). Units: accounts, seats, minor units of the currency.
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/subscription_states.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  tier,
  currency,
  accounts,
  CAST(accounts AS DOUBLE) / sum(accounts) OVER (PARTITION BY period_start) AS share,
  seats,
  CAST(mrr_micros AS DOUBLE) / 1000000.0 AS mrr_minor,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    p.period_start,
    s.tier,
    s.currency,
    count(DISTINCT s.account_id) AS accounts,
    sum(s.seats) AS seats,
    sum(s.mrr_micros) AS mrr_micros
  FROM (
    SELECT period_start, least(period_end(period_start, $interval, $tz), $to) AS period_end
    FROM (SELECT unnest(periods($from, $to, $interval, $tz)) AS period_start) AS starts
    WHERE $interval IN ('month', 'day', 'week', 'quarter', 'year', 'all')
  ) AS p
  JOIN (SELECT * FROM subscription_states WHERE status IS DISTINCT FROM 'cancelled') AS s
    ON s.valid_from < p.period_end AND (s.valid_to IS NULL OR s.valid_to >= p.period_end)
  GROUP BY 1, 2, 3
) AS tiers
ORDER BY period_start, tier, currency
