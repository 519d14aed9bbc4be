-- Why executions failed
--
-- Executions that ended 'error' or 'timeout', by the class that the agent told; `timeout` where a timeout has none.
SELECT
  coalesce(error_class, CASE status WHEN 'timeout' THEN 'timeout' ELSE 'unknown' END) AS error_class,
  sum(executions) AS failures,
  count(DISTINCT agent) AS agents
FROM agent_totals
WHERE cut IN ('day agent', 'agent') AND status IN ('error', 'timeout')
GROUP BY 1
ORDER BY failures DESC, error_class
