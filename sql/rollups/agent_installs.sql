-- Installs of agents from the marketplace, one per installer and day.
--
-- Grain: one row per UTC day, agent and installer: the account, else the user, else the installation. However often one of them
-- installs an agent on a day, it counts once: counters cannot be pumped up by one account. Units: events.
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it.
SELECT
  agent,
  coalesce(account_id, user_id, anonymous_id) AS installer,
  min(event_time) AS first_event,
  count(*) AS events
FROM raw_marketplace_events
WHERE day = $day AND name = 'installed' AND agent IS NOT NULL AND coalesce(account_id, user_id, anonymous_id) IS NOT NULL
GROUP BY 1, 2
