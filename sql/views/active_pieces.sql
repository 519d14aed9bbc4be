-- How many people were active in each piece of [$from, $to), $step long.
--
-- Grain: one row per piece that somebody was active in (`piece`, its start, UTC). Of each day there are the first and the last
-- event, so that a piece may begin and end at any time of a day, as long as it is no shorter than a day.
-- Source: sql/views/activity.sql.
SELECT arrow_cast(piece, 'Timestamp(Nanosecond, None)') AS piece, count(*) AS users
FROM (
  SELECT unnest(pieces) AS piece
  FROM (
    SELECT person, sorted_set(CAST(date_bin($step, CAST(at AS TIMESTAMP), $from) AS BIGINT)) AS pieces
    FROM activity
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to
    GROUP BY person
  ) AS people
) AS each
GROUP BY piece
