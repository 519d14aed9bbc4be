-- Why executions failed
--
-- Executions that ended 'error' or 'timeout', by the class that the agent told.
SELECT coalesce(error_class, status, 'unknown') AS error_class, count(*) AS failures, count(DISTINCT agent) AS agents
FROM raw_agent_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND status IN ('error', 'timeout')
GROUP BY 1
ORDER BY failures DESC, error_class
