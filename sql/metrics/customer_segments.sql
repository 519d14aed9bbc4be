-- Customer segments
--
-- Accounts that paid in the twelve months before the end of the time asked about, by how recently (R), how often (F) and how much
-- net (M), each in fifths of the own base, 5 the best; refunds lower M and are no visit.
-- champion: R, F, M at least 4. loyal: R at least 3, F at least 4. big spender: R at least 3, M at least 4. promising: R at least 4.
-- needs attention: R is 3. at risk: R at most 2, F at least 3. hibernating: R is 2. lost: the rest.
-- Grain: one row per currency and segment. Units: accounts, minor units of the currency; share of the currency's accounts.
-- Lateness: none is lost: it reads every event.
-- Source: raw_payment_events; the method is RFM by quintiles.
SELECT
  currency,
  segment,
  count(*) AS accounts,
  CAST(count(*) AS DOUBLE) / sum(count(*)) OVER (PARTITION BY currency) AS share,
  CAST(sum(money) AS DOUBLE) AS net_minor
FROM (
  SELECT
    currency,
    money,
    CASE
      WHEN r >= 4 AND f >= 4 AND m >= 4 THEN 'champion'
      WHEN r >= 3 AND f >= 4 THEN 'loyal'
      WHEN r >= 3 AND m >= 4 THEN 'big spender'
      WHEN r >= 4 THEN 'promising'
      WHEN r = 3 THEN 'needs attention'
      WHEN f >= 3 THEN 'at risk'
      WHEN r = 2 THEN 'hibernating'
      ELSE 'lost'
    END AS segment
  FROM (
    SELECT
      currency,
      money,
      ntile(5) OVER (PARTITION BY currency ORDER BY last_at, account_id) AS r,
      ntile(5) OVER (PARTITION BY currency ORDER BY visits, account_id) AS f,
      ntile(5) OVER (PARTITION BY currency ORDER BY money, account_id) AS m
    FROM (
      SELECT
        coalesce(currency, '') AS currency,
        account_id,
        max(CASE WHEN amount_minor > 0 THEN event_time END) AS last_at,
        sum(CASE WHEN amount_minor > 0 THEN 1 ELSE 0 END) AS visits,
        sum(amount_minor) AS money
      FROM raw_payment_events
      WHERE event_time >= $to - INTERVAL '12 months' AND event_time < $to AND account_id IS NOT NULL
      GROUP BY 1, 2
      HAVING sum(CASE WHEN amount_minor > 0 THEN 1 ELSE 0 END) > 0
    ) AS accounts
  ) AS scored
) AS segmented
GROUP BY currency, segment
ORDER BY currency, net_minor DESC, segment
