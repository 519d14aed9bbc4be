-- Users and costs in numbers
--
-- Active users: people with an event other than a heartbeat. New users: those first seen ever. Marketplace: what was paid for agents
-- less what was refunded. Infrastructure: effective cost. Both in US dollars.
SELECT
  (SELECT count(DISTINCT person) FROM activity_days
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to) AS active_users,
  (SELECT count(*) FROM first_seen WHERE first_at >= $from AND first_at < $to) AS new_users,
  (SELECT CAST(coalesce(sum(CAST(price_usd AS DECIMAL(24, 9))), 0) AS DOUBLE) FROM raw_marketplace_events
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
      AND name IN ('purchased', 'refunded')) AS marketplace_net_usd,
  (SELECT CAST(coalesce(sum(CAST(effective_cost_usd AS DECIMAL(24, 9))), 0) AS DOUBLE) FROM raw_cost_events
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to)
    AS infrastructure_cost_usd
