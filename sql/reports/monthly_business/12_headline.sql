-- Users and costs in numbers
--
-- Active users: people with an event other than a heartbeat. New users: those first seen ever. Marketplace: what was paid for agents
-- less what was refunded. Infrastructure: effective cost. Both in US dollars.
SELECT
  p.piece,
  coalesce(active.users, 0) AS active_users,
  coalesce(seen.users, 0) AS new_users,
  coalesce(market.net_usd, 0) AS marketplace_net_usd,
  coalesce(cost.effective_usd, 0) AS infrastructure_cost_usd
FROM report_pieces AS p
LEFT JOIN active_pieces AS active ON active.piece = p.piece
LEFT JOIN new_user_pieces AS seen ON seen.piece = p.piece
LEFT JOIN (
  SELECT
    date_bin($step, CAST(event_time AS TIMESTAMP), $from) AS piece,
    CAST(sum(CAST(price_usd AS DECIMAL(24, 9))) AS DOUBLE) AS net_usd
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
    AND name IN ('purchased', 'refunded')
  GROUP BY 1
) AS market ON market.piece = p.piece
LEFT JOIN cost_pieces AS cost ON cost.piece = p.piece
ORDER BY p.piece
