-- Who ran which agent on a day.
--
-- Grain: one row per UTC day, agent and user or installation, with first and last execution. Units: executions.
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it.
SELECT
  agent,
  user_id,
  anonymous_id,
  min(event_time) AS first_event,
  max(event_time) AS last_event,
  count(status) AS executions
FROM raw_agent_events
WHERE day = $day AND status IS DISTINCT FROM 'started'
GROUP BY agent, user_id, anonymous_id
