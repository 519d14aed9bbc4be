-- Workflows
--
-- Events of workflow runs by their name, and the users behind them.
SELECT coalesce(name, 'unnamed') AS event, count(*) AS events, count(DISTINCT user_id) AS users
FROM raw_workflow_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1
ORDER BY events DESC, event
