-- Each version
--
-- Executions and success by agent and version, so that a bad release is seen.
SELECT
  coalesce(agent, 'unnamed') || ' ' || coalesce(agent_version, '(no version)') AS version,
  sum(executions) AS executions,
  100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
    / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent
FROM (
  SELECT agent, agent_version, status, executions
  FROM agent_versions_daily
  WHERE day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
    AND day < CAST($to AS DATE)
  UNION ALL
  SELECT agent, agent_version, status, count(status)
  FROM raw_agent_events
  WHERE (status IS DISTINCT FROM 'started')
    AND event_time >= $from
    AND event_time < $to
    AND (
      day = CAST($from AS DATE) AND date_trunc('day', $from) < $from
      OR day = CAST($to AS DATE) AND date_trunc('day', $to) < $to
    )
  GROUP BY agent, agent_version, status
) AS pieces
GROUP BY 1
ORDER BY executions DESC, version
