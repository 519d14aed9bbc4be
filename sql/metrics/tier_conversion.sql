-- Upgrades
--
-- Of the accounts that were on a plan when a period began, those that came to a higher one within it; up and down again counts once.
-- free is below trial, trial below team, team below enterprise; other plans are in no row.
-- Grain: one row per period and plan at its start. Units: accounts; rates are fractions, none where no account was on the plan.
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/subscription_states.sql.
WITH ranked AS (
  SELECT
    account_id,
    tier,
    valid_from,
    valid_to,
    CASE tier WHEN 'free' THEN 0 WHEN 'trial' THEN 1 WHEN 'team' THEN 2 WHEN 'enterprise' THEN 3 END AS height
  FROM subscription_states
  WHERE (status IS DISTINCT FROM 'cancelled') AND tier IN ('free', 'trial', 'team', 'enterprise')
),
starts AS (
  SELECT period_start, least(period_end(period_start, $interval, $tz), $to) AS period_end
  FROM (SELECT unnest(periods($from, $to, $interval, $tz)) AS period_start) AS starts
  WHERE $interval IN ('month', 'day', 'week', 'quarter', 'year')
),
began AS (
  SELECT p.period_start, p.period_end, r.account_id, max(r.height) AS height
  FROM starts AS p
  JOIN ranked AS r ON r.valid_from < p.period_start AND (r.valid_to IS NULL OR r.valid_to >= p.period_start)
  GROUP BY 1, 2, 3
),
reached AS (
  SELECT b.period_start, b.account_id, max(r.height) AS height
  FROM began AS b
  JOIN ranked AS r ON r.account_id = b.account_id AND r.valid_from >= b.period_start AND r.valid_from < b.period_end
  GROUP BY 1, 2
)
SELECT
  period_label(b.period_start, $interval, $tz) AS period,
  b.period_start,
  CASE b.height WHEN 0 THEN 'free' WHEN 1 THEN 'trial' WHEN 2 THEN 'team' ELSE 'enterprise' END AS tier,
  count(*) AS accounts_start,
  sum(CASE WHEN r.height > b.height THEN 1 ELSE 0 END) AS upgraded,
  CAST(sum(CASE WHEN r.height > b.height THEN 1 ELSE 0 END) AS DOUBLE) / count(*) AS upgrade_rate,
  least(period_end(b.period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM began AS b
LEFT JOIN reached AS r ON r.period_start = b.period_start AND r.account_id = b.account_id
WHERE b.height < 3
GROUP BY b.period_start, b.height
ORDER BY b.period_start, b.height
