-- Agent tokens and their cost
--
-- Tokens by kind. cost_usd is what producers said; cost_list_usd is tokens times the list price valid at each event: an estimate,
-- not a bill.
-- Grain: one row per period and breakdown. Units: tokens, US dollars.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/agent_usage.sql. Exact in time zones whose offset is a whole number of quarter hours: all of today's.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  tokens_input + tokens_output AS tokens,
  tokens_input,
  tokens_output,
  tokens_cache_read,
  tokens_cache_write,
  cost_usd,
  cost_list_usd,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'agent' THEN coalesce(agent, 'unnamed')
      WHEN 'model' THEN coalesce(model, 'unknown')
      WHEN 'tier' THEN coalesce(tier, 'unknown')
      ELSE 'all'
    END AS breakdown,
    sum(tokens_input) AS tokens_input,
    sum(tokens_output) AS tokens_output,
    sum(tokens_cache_read) AS tokens_cache_read,
    sum(tokens_cache_write) AS tokens_cache_write,
    CAST(sum(CAST(cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd,
    CAST(sum(CAST(cost_list_usd AS DECIMAL(24, 9))) AS DOUBLE) AS cost_list_usd
  FROM agent_usage
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($agent IS NULL OR agent = $agent)
    AND ($model IS NULL OR model = $model)
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, breakdown
