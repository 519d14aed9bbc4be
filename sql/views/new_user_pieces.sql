-- How many people were first seen in each piece of [$from, $to), $step long.
--
-- Grain: one row per piece that somebody was first seen in (`piece`, its start, UTC). Source: sql/views/first_seen.sql.
SELECT date_bin($step, CAST(first_at AS TIMESTAMP), $from) AS piece, count(*) AS users
FROM first_seen
WHERE first_at >= $from AND first_at < $to
GROUP BY 1
