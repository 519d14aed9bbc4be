-- Conversion from plan to plan
--
-- Accounts that began on free in the time asked about, those of them that came to team within `window_days` (90 if not given) of
-- it, and those of these that came to enterprise within the window after that. Accounts that began on a higher plan are `direct`.
-- Grain: one row per step. Units: accounts; rates are fractions. `open`: accounts of the step before that have not come yet and
-- whose window has not passed.
-- Lateness: none is lost: it reads every event.
-- Source: sql/views/subscription_states.sql; the definition is PostHog's ordered funnel, per account, first touch.
WITH firsts AS (
  SELECT
    account_id,
    min(CASE WHEN plan = 'free' THEN valid_from END) AS free_at,
    min(CASE WHEN plan = 'team' AND status IN ('active', 'past_due') THEN valid_from END) AS team_at,
    min(CASE WHEN plan = 'enterprise' AND status IN ('active', 'past_due') THEN valid_from END) AS enterprise_at
  FROM subscription_states
  GROUP BY account_id
),
reached AS (
  SELECT
    CASE WHEN free_at >= $from AND free_at < $to THEN 1 ELSE 0 END AS free,
    CASE WHEN free_at >= $from AND free_at < $to AND team_at >= free_at
      AND date_part('epoch', team_at) - date_part('epoch', free_at) < coalesce($window_days, 90) * 86400 THEN 1 ELSE 0 END AS team,
    CASE WHEN free_at >= $from AND free_at < $to AND team_at >= free_at
      AND date_part('epoch', team_at) - date_part('epoch', free_at) < coalesce($window_days, 90) * 86400
      AND enterprise_at >= team_at
      AND date_part('epoch', enterprise_at) - date_part('epoch', team_at) < coalesce($window_days, 90) * 86400 THEN 1 ELSE 0 END AS enterprise,
    CASE WHEN free_at >= $from AND free_at < $to AND team_at IS NULL
      AND date_part('epoch', free_at) + coalesce($window_days, 90) * 86400 > date_part('epoch', $complete_through) THEN 1 ELSE 0 END
      AS team_open,
    CASE WHEN free_at >= $from AND free_at < $to AND team_at >= free_at
      AND date_part('epoch', team_at) - date_part('epoch', free_at) < coalesce($window_days, 90) * 86400
      AND enterprise_at IS NULL
      AND date_part('epoch', team_at) + coalesce($window_days, 90) * 86400 > date_part('epoch', $complete_through) THEN 1 ELSE 0 END
      AS enterprise_open,
    CASE WHEN team_at >= $from AND team_at < $to AND (free_at IS NULL OR free_at > team_at) THEN 1 ELSE 0 END AS team_direct,
    CASE WHEN enterprise_at >= $from AND enterprise_at < $to AND (free_at IS NULL OR free_at > enterprise_at)
      AND (team_at IS NULL OR team_at > enterprise_at) THEN 1 ELSE 0 END AS enterprise_direct
  FROM firsts
),
steps AS (
  SELECT 1 AS step, 'free' AS tier, sum(free) AS accounts, 0 AS direct, 0 AS open FROM reached
  UNION ALL
  SELECT 2, 'team', sum(team), sum(team_direct), sum(team_open) FROM reached
  UNION ALL
  SELECT 3, 'enterprise', sum(enterprise), sum(enterprise_direct), sum(enterprise_open) FROM reached
)
SELECT
  step,
  tier,
  accounts,
  direct,
  open,
  CAST(accounts AS DOUBLE) / nullif(lag(accounts) OVER (ORDER BY step), 0) AS rate_from_previous,
  CAST(accounts AS DOUBLE) / nullif(first_value(accounts) OVER (ORDER BY step), 0) AS rate_overall
FROM steps
WHERE accounts IS NOT NULL
ORDER BY step
