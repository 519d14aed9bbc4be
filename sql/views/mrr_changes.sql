-- Changes of what customers pay monthly, by kind.
--
-- Grain: one row per account, currency and change. Changes of one account with less than an hour between neighbours are one,
-- unless a period of $interval begins between them. new: it never paid before; reactivation: it did, and paid nothing; churn: it
-- pays nothing any more; expansion and contraction: more and less. A cancellation counts when the paid period ends.
-- Units: millionths of the currency's minor unit; change_micros is after minus before.
-- Source of the definition: ChartMogul's MRR movements.
WITH changes AS (
  SELECT account_id, currency, at, sum(change) AS change
  FROM (
    SELECT
      account_id,
      currency,
      valid_from AS at,
      mrr_micros - coalesce(lag(mrr_micros) OVER (PARTITION BY subscription_id ORDER BY valid_from, event_id), 0) AS change
    FROM subscription_states
  ) AS single
  WHERE change <> 0
  GROUP BY account_id, currency, at
),
grouped AS (
  SELECT
    account_id, currency, at, change, first,
    sum(first) OVER (PARTITION BY account_id, currency ORDER BY at) AS group_number,
    sum(change) OVER (PARTITION BY account_id, currency ORDER BY at) AS after
  FROM (
    SELECT
      account_id, currency, at, change,
      CASE
        WHEN lag(at) OVER (PARTITION BY account_id, currency ORDER BY at) > at - INTERVAL '60 minutes'
          AND lag(at) OVER (PARTITION BY account_id, currency ORDER BY at) >= period_start(at, $interval, $tz)
        THEN 0 ELSE 1
      END AS first
    FROM changes
  ) AS marked
),
netted AS (
  SELECT
    account_id, currency, group_number,
    max(at) AS at,
    sum(change) AS change_micros,
    last_value(after ORDER BY at) AS after
  FROM grouped
  GROUP BY account_id, currency, group_number
)
SELECT
  account_id,
  currency,
  at,
  change_micros,
  CASE
    WHEN change_micros = 0 THEN 'none'
    WHEN after = change_micros AND before_max IS NULL THEN 'new'
    WHEN after = change_micros AND before_max = 0 THEN 'new'
    WHEN after = change_micros THEN 'reactivation'
    WHEN after = 0 THEN 'churn'
    WHEN change_micros > 0 THEN 'expansion'
    ELSE 'contraction'
  END AS kind
FROM (
  SELECT
    *,
    max(after) OVER (PARTITION BY account_id, currency ORDER BY group_number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
      AS before_max
  FROM netted
) AS known
