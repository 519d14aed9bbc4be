-- Agents in numbers
--
-- Executions: runs of agents that ended. Success: ended 'ok' of those that ended 'ok', 'error' or 'timeout'. Users: people who ran an
-- agent. Installs: an account counts once a day and agent. Rating: the mean of the stars given. Net: what was paid less refunds, US
-- dollars.
SELECT
  p.piece,
  coalesce(runs.executions, 0) AS executions,
  runs.success_percent,
  coalesce(people.users, 0) AS users,
  coalesce(installed.installs, 0) AS installs,
  coalesce(market.views, 0) AS views,
  market.rating,
  coalesce(market.purchases, 0) AS purchases,
  coalesce(market.net_usd, 0) AS net_usd
FROM report_pieces AS p
LEFT JOIN (
  SELECT
    piece,
    sum(executions) AS executions,
    100.0 * sum(CASE WHEN status = 'ok' THEN executions ELSE 0 END)
      / nullif(sum(CASE WHEN status IN ('ok', 'error', 'timeout') THEN executions ELSE 0 END), 0) AS success_percent
  FROM agent_pieces
  GROUP BY piece
) AS runs ON runs.piece = p.piece
LEFT JOIN (
  SELECT piece, text_set_count(text_set_merge(people)) AS users FROM agent_people_pieces GROUP BY piece
) AS people ON people.piece = p.piece
LEFT JOIN (
  SELECT date_bin($step, CAST(first_event AS TIMESTAMP), $from) AS piece, count(*) AS installs
  FROM agent_installs
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND first_event >= $from AND first_event < $to
  GROUP BY 1
) AS installed ON installed.piece = p.piece
LEFT JOIN (
  SELECT
    date_bin($step, CAST(event_time AS TIMESTAMP), $from) AS piece,
    sum(CASE WHEN name = 'viewed' THEN 1 ELSE 0 END) AS views,
    avg(CASE WHEN name = 'reviewed' THEN rating END) AS rating,
    sum(CASE WHEN name = 'purchased' THEN 1 ELSE 0 END) AS purchases,
    CAST(sum(CASE WHEN name IN ('purchased', 'refunded') THEN CAST(price_usd AS DECIMAL(24, 9)) END) AS DOUBLE) AS net_usd
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  GROUP BY 1
) AS market ON market.piece = p.piece
ORDER BY p.piece
