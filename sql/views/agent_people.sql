-- Who ran which agent in [$from, $to), as sets to be merged.
--
-- Grain: any number of rows per agent, with a set of people. Whole UTC days come as sets, the days that the ends cut through as rows of
-- people whose executions of the day reach into the time.
-- Source: sql/rollups/agent_users.sql, sql/rollups/agent_user_days.sql, sql/views/identities.sql.
SELECT agent, users AS people
FROM agent_users
WHERE users IS NOT NULL
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
UNION ALL
SELECT u.agent, text_set(i.user_id)
FROM agent_users AS u
JOIN identities AS i ON i.anonymous_id = u.anonymous_id
WHERE u.users IS NULL
  AND u.day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND u.day < CAST($to AS DATE)
GROUP BY u.agent
UNION ALL
SELECT d.agent, text_set(coalesce(d.user_id, i.user_id))
FROM agent_user_days AS d
LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
WHERE d.day >= CAST($from AS DATE)
  AND d.day <= CAST($to AS DATE)
  AND (d.day < CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE) OR d.day >= CAST($to AS DATE))
  AND d.last_event >= $from
  AND d.first_event < $to
GROUP BY d.agent
