-- Views, installs, sales
--
-- Each agent in the marketplace: how often it was viewed, installed, removed and bought, and its mean stars. US dollars.
SELECT
  coalesce(agent, 'unnamed') AS agent,
  sum(CASE WHEN name = 'installed' THEN 1 ELSE 0 END) AS installs,
  sum(CASE WHEN name = 'viewed' THEN 1 ELSE 0 END) AS views,
  sum(CASE WHEN name = 'uninstalled' THEN 1 ELSE 0 END) AS removals,
  sum(CASE WHEN name = 'purchased' THEN 1 ELSE 0 END) AS purchases,
  sum(CASE WHEN name IN ('purchased', 'refunded') THEN price_usd ELSE 0 END) AS net_usd,
  avg(CASE WHEN name = 'reviewed' THEN rating END) AS stars
FROM raw_marketplace_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND agent IS NOT NULL
GROUP BY 1
ORDER BY installs DESC, agent
