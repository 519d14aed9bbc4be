-- Agents by revenue
--
-- What was paid for each agent in the marketplace less what was refunded. US dollars.
SELECT
  coalesce(agent, 'unnamed') AS agent,
  CAST(sum(CAST(price_usd AS DECIMAL(24, 9))) AS DOUBLE) AS net_usd,
  sum(CASE WHEN name = 'purchased' THEN 1 ELSE 0 END) AS purchases,
  sum(CASE WHEN name = 'refunded' THEN 1 ELSE 0 END) AS refunds,
  count(DISTINCT coalesce(account_id, user_id)) AS buyers
FROM raw_marketplace_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  AND name IN ('purchased', 'refunded')
GROUP BY 1
ORDER BY net_usd DESC, agent
