-- Who used which feature on a day.
--
-- Grain: one row per UTC day, user or installation, plan and feature. A feature is what the editor calls an event (heartbeats
-- excepted), `agent run`, `agent start`, `workflow run`, `workflow step`, or `marketplace ` and what was done there: each qualifying
-- event of sql/rollups/user_days.sql has one, so whoever was active used something. Units: uses (events).
-- Lateness: none is lost: it reads raw tables, and a day runs again when late events changed it.
SELECT
  user_id,
  anonymous_id,
  tier,
  feature,
  min(event_time) AS first_event,
  max(event_time) AS last_event,
  count(*) AS uses
FROM (
  SELECT user_id, anonymous_id, tier, coalesce(name, 'unnamed') AS feature, event_time
  FROM raw_ide_events
  WHERE day = $day AND name IS DISTINCT FROM 'heartbeat'
  UNION ALL
  SELECT user_id, anonymous_id, tier, CASE status WHEN 'started' THEN 'agent start' ELSE 'agent run' END, event_time
  FROM raw_agent_events
  WHERE day = $day
  UNION ALL
  SELECT user_id, anonymous_id, tier, CASE name WHEN 'run_started' THEN 'workflow run' ELSE 'workflow step' END, event_time
  FROM raw_workflow_events
  WHERE day = $day
  UNION ALL
  SELECT user_id, anonymous_id, tier, 'marketplace ' || coalesce(name, 'unnamed'), event_time
  FROM raw_marketplace_events
  WHERE day = $day
) AS events
WHERE coalesce(user_id, anonymous_id) IS NOT NULL
GROUP BY user_id, anonymous_id, tier, feature
