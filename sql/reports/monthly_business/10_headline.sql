-- The month in numbers
--
-- Sales: what was paid for agents, refunds not taken off. Net: with refunds taken off. Buyers: accounts (or users) that paid.
-- Active users: distinct users with an event in the editor. Money in US dollars.
SELECT
  sales.sales_usd,
  sales.net_usd,
  sales.buyers,
  sales.installs,
  users.active_users,
  agents.cost_usd AS agent_cost_usd
FROM (
  SELECT
    sum(CASE WHEN name = 'purchased' THEN price_usd ELSE 0 END) AS sales_usd,
    sum(CASE WHEN name IN ('purchased', 'refunded') THEN price_usd ELSE 0 END) AS net_usd,
    count(DISTINCT CASE WHEN name = 'purchased' THEN coalesce(account_id, user_id) END) AS buyers,
    sum(CASE WHEN name = 'installed' THEN 1 ELSE 0 END) AS installs
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
) AS sales
CROSS JOIN (
  SELECT count(DISTINCT user_id) AS active_users
  FROM raw_ide_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND name IS DISTINCT FROM 'heartbeat'
) AS users
CROSS JOIN (
  SELECT sum(coalesce(cost_usd, 0)) AS cost_usd
  FROM raw_agent_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
) AS agents
