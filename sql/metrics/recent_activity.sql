-- Recent activity
--
-- What happened last: people seen for the first time, plans that changed, incidents, agents published and installed.
-- Grain: one row per happening, newest first, 50 at most.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/first_seen.sql, raw_subscription_events, raw_incident_events, raw_marketplace_events.
SELECT happened_at, kind, subject, detail
FROM (
  SELECT first_at AS happened_at, 'new user' AS kind, person AS subject, coalesce(country, '') AS detail
  FROM first_seen
  WHERE first_at >= $from AND first_at < $to
  UNION ALL
  SELECT event_time, 'subscription ' || coalesce(name, status, 'changed'), coalesce(account_id, subscription_id, ''),
    coalesce(tier, '')
  FROM raw_subscription_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  UNION ALL
  SELECT event_time, 'incident ' || coalesce(name, 'reported'), coalesce(title, incident_id, ''), coalesce(severity, '')
  FROM raw_incident_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  UNION ALL
  SELECT event_time, 'agent ' || name, coalesce(agent, ''), coalesce(account_id, user_id, anonymous_id, '')
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
    AND name IN ('published', 'installed', 'reviewed')
) AS happenings
ORDER BY happened_at DESC, kind, subject, detail
LIMIT 50
