-- Agents in numbers
--
-- Executions: agent events that tell an end. Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'.
-- Installs: install events. Rating: the mean of the stars given. Money in US dollars.
SELECT
  runs.executions,
  runs.success_percent,
  runs.users,
  market.installs,
  market.rating,
  market.net_usd
FROM (
  SELECT
    count(status) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN 1 ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN 1 ELSE 0 END), 0) AS success_percent,
    count(DISTINCT user_id) AS users
  FROM raw_agent_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND status IS DISTINCT FROM 'started'
) AS runs
CROSS JOIN (
  SELECT
    sum(CASE WHEN name = 'installed' THEN 1 ELSE 0 END) AS installs,
    avg(CASE WHEN name = 'reviewed' THEN rating END) AS rating,
    sum(CASE WHEN name IN ('purchased', 'refunded') THEN price_usd ELSE 0 END) AS net_usd
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
) AS market
