-- Executions of each version of an agent per day.
--
-- Grain: one row per UTC day, agent, version and status that had an execution.
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it. Units: executions.
SELECT agent, agent_version, status, count(status) AS executions
FROM raw_agent_events
WHERE day = $day AND status IS DISTINCT FROM 'started'
GROUP BY agent, agent_version, status
