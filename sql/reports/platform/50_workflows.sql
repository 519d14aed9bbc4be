-- Workflows
--
-- Events of workflow runs by their name, and the users behind them.
SELECT
  coalesce(name, 'unnamed') AS event,
  sum(events) AS events,
  coalesce(text_set_count(text_set_merge(users)), 0) AS users
FROM (
  SELECT name, events, users
  FROM workflow_usage_daily
  WHERE day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
    AND day < CAST($to AS DATE)
  UNION ALL
  SELECT name, count(*), text_set(user_id)
  FROM raw_workflow_events
  WHERE event_time >= $from
    AND event_time < $to
    AND (
      day = CAST($from AS DATE) AND date_trunc('day', $from) < $from
      OR day = CAST($to AS DATE) AND date_trunc('day', $to) < $to
    )
  GROUP BY name
) AS pieces
GROUP BY 1
ORDER BY events DESC, event
