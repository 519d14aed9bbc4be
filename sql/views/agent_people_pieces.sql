-- Who ran agents in each piece of [$from, $to), $step long, as sets to be merged.
--
-- Grain: any number of rows per piece (`piece`, its start, UTC), with a set of people. Whole UTC days come as sets; of the days that a
-- piece's end cuts through, the first and the last execution of each person tell the pieces.
-- Source: sql/rollups/agent_users.sql, sql/rollups/agent_user_days.sql, sql/views/identities.sql.
SELECT date_bin($step, CAST(day AS TIMESTAMP), $from) AS piece, users AS people
FROM agent_users
WHERE users IS NOT NULL
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
  AND date_bin($step, CAST(day AS TIMESTAMP), $from)
    = date_bin($step, CAST(day AS TIMESTAMP) + INTERVAL '1 day' - INTERVAL '1 nanosecond', $from)
UNION ALL
SELECT date_bin($step, CAST(u.day AS TIMESTAMP), $from), text_set(i.user_id)
FROM agent_users AS u
JOIN identities AS i ON i.anonymous_id = u.anonymous_id
WHERE u.users IS NULL
  AND u.day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND u.day < CAST($to AS DATE)
  AND date_bin($step, CAST(u.day AS TIMESTAMP), $from)
    = date_bin($step, CAST(u.day AS TIMESTAMP) + INTERVAL '1 day' - INTERVAL '1 nanosecond', $from)
GROUP BY 1
UNION ALL
SELECT piece, text_set(person)
FROM (
  SELECT
    coalesce(d.user_id, i.user_id) AS person,
    unnest(make_array(
      date_bin($step, CAST(d.first_event AS TIMESTAMP), $from),
      date_bin($step, CAST(d.last_event AS TIMESTAMP), $from))) AS piece
  FROM agent_user_days AS d
  LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
  WHERE d.day >= CAST($from AS DATE)
    AND d.day <= CAST($to AS DATE)
    AND date_bin($step, CAST(d.day AS TIMESTAMP), $from)
      <> date_bin($step, CAST(d.day AS TIMESTAMP) + INTERVAL '1 day' - INTERVAL '1 nanosecond', $from)
) AS moments
WHERE piece >= $from AND piece < $to
GROUP BY piece
