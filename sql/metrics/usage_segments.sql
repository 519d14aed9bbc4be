-- Accounts by use
--
-- Accounts with somebody active in the 90 days before the end of the time asked about, by how recently (R), on how many days (F) and
-- for how much a month (M: recurring revenue in the account's currency), R and F in fifths of the own base, 5 the best. For
-- subscriptions, where accounts of a plan pay alike, use tells more than payments (`customer_segments` has those).
-- champion: R and F at least 4. steady: R at least 3, F at least 3. light: R at least 3. slipping: R at most 2, F at least 3.
-- sleeping: the rest. `paying` counts those with recurring revenue at the end.
-- Grain: one row per segment, or per segment and plan at the end (`none` without a subscription). Units: accounts; share of all.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/activity.sql, sql/views/subscription_states.sql; the method is RFM by quintiles.
WITH use AS (
  SELECT account_id, max(at) AS last_at, count(DISTINCT local_day(at, $tz)) AS days
  FROM activity
  WHERE day >= CAST($to - INTERVAL '90 days' AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $to - INTERVAL '90 days'
    AND at < $to
    AND account_id IS NOT NULL
  GROUP BY account_id
),
paid AS (
  SELECT account_id, max(tier) AS tier, sum(mrr_micros) AS mrr_micros
  FROM subscription_states
  WHERE (status IS DISTINCT FROM 'cancelled') AND valid_from < $to AND (valid_to IS NULL OR valid_to >= $to)
  GROUP BY account_id
),
scored AS (
  SELECT
    u.account_id,
    coalesce(p.tier, 'none') AS tier,
    coalesce(p.mrr_micros, 0) AS mrr_micros,
    u.days,
    ntile(5) OVER (ORDER BY u.last_at, u.account_id) AS r,
    ntile(5) OVER (ORDER BY u.days, u.account_id) AS f
  FROM use AS u
  LEFT JOIN paid AS p ON p.account_id = u.account_id
)
SELECT
  segment,
  CASE $breakdown WHEN 'tier' THEN tier ELSE 'all' END AS breakdown,
  count(*) AS accounts,
  CAST(count(*) AS DOUBLE) / sum(count(*)) OVER () AS share,
  sum(CASE WHEN mrr_micros > 0 THEN 1 ELSE 0 END) AS paying,
  avg(CAST(days AS DOUBLE)) AS days_active_mean
FROM (
  SELECT
    *,
    CASE
      WHEN r >= 4 AND f >= 4 THEN 'champion'
      WHEN r >= 3 AND f >= 3 THEN 'steady'
      WHEN r >= 3 THEN 'light'
      WHEN f >= 3 THEN 'slipping'
      ELSE 'sleeping'
    END AS segment
  FROM scored
) AS segmented
GROUP BY 1, 2
ORDER BY CASE segment WHEN 'champion' THEN 1 WHEN 'steady' THEN 2 WHEN 'light' THEN 3 WHEN 'slipping' THEN 4 ELSE 5 END, accounts DESC, breakdown
