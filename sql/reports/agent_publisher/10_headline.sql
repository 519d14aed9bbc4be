-- Agents in numbers
--
-- Executions: runs of agents that ended. Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'. Users: people who ran an
-- agent. Installs: an account counts once a day and agent. Rating: the mean of the stars given. Net: what was paid less refunds, US
-- dollars.
SELECT
  runs.executions,
  runs.success_percent,
  (SELECT coalesce(text_set_count(text_set_merge(people)), 0) FROM agent_people) AS users,
  (SELECT count(*) FROM agent_installs
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND first_event >= $from AND first_event < $to) AS installs,
  market.views,
  market.rating,
  market.purchases,
  market.net_usd
FROM (
  SELECT
    coalesce(sum(executions), 0) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent
  FROM agent_totals
  WHERE cut IN ('day all', 'all')
) AS runs
CROSS JOIN (
  SELECT
    coalesce(sum(CASE WHEN name = 'viewed' THEN 1 ELSE 0 END), 0) AS views,
    avg(CASE WHEN name = 'reviewed' THEN rating END) AS rating,
    coalesce(sum(CASE WHEN name = 'purchased' THEN 1 ELSE 0 END), 0) AS purchases,
    CAST(coalesce(sum(CASE WHEN name IN ('purchased', 'refunded') THEN CAST(price_usd AS DECIMAL(24, 9)) END), 0) AS DOUBLE) AS net_usd
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
) AS market
