-- Each version
--
-- Executions and success by agent and version, so that a bad release is seen.
SELECT
  coalesce(agent, 'unnamed') || ' ' || coalesce(agent_version, '(no version)') AS version,
  count(status) AS executions,
  100.0 * sum(CASE WHEN status = 'ok' THEN 1 ELSE 0 END)
    / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN 1 ELSE 0 END), 0) AS success_percent
FROM raw_agent_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND status IS DISTINCT FROM 'started'
GROUP BY 1
ORDER BY executions DESC, version
