-- Executions per day
--
-- Agent events that tell an end, per UTC day; failures ended 'error' or 'timeout'.
SELECT day, count(status) AS executions, sum(CASE WHEN status IN ('error', 'timeout') THEN 1 ELSE 0 END) AS failures,
  count(DISTINCT user_id) AS users
FROM raw_agent_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND status IS DISTINCT FROM 'started'
GROUP BY day
ORDER BY day
