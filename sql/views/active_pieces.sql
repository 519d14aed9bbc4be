-- How many people were active in each piece of [$from, $to), $step long.
--
-- Grain: one row per piece that somebody was active in (`piece`, its start, UTC). Of each day there is the first event, and the last one
-- too where that is in another piece, or where nobody had signed in: a piece may begin at any time of a day, and is no shorter than one.
-- Source: sql/rollups/user_days.sql, sql/views/identities.sql.
SELECT arrow_cast(piece, 'Timestamp(Nanosecond, None)') AS piece, count(*) AS users
FROM (
  SELECT unnest(pieces) AS piece
  FROM (
    SELECT person, sorted_set(CAST(date_bin($step, CAST(at AS TIMESTAMP), $from) AS BIGINT)) AS pieces
    FROM (
      SELECT user_id AS person, first_event AS at, day
      FROM user_days
      WHERE user_id IS NOT NULL
      UNION ALL
      SELECT user_id, last_event, day
      FROM user_days
      WHERE user_id IS NOT NULL
        AND date_bin($step, CAST(last_event AS TIMESTAMP), $from) <> date_bin($step, CAST(first_event AS TIMESTAMP), $from)
      UNION ALL
      SELECT i.user_id, d.at, d.day
      FROM (
        SELECT anonymous_id, unnest(make_array(first_event, last_event)) AS at, day FROM user_days WHERE user_id IS NULL
      ) AS d
      JOIN identities AS i ON i.anonymous_id = d.anonymous_id
    ) AS moments
    WHERE day >= CAST($from AS DATE)
      AND day <= CAST($to AS DATE)
      AND at >= $from
      AND at < $to
      AND NOT EXISTS (SELECT 1 FROM excluded_people AS e WHERE e.person = moments.person)
    GROUP BY person
  ) AS people
) AS each
GROUP BY piece
