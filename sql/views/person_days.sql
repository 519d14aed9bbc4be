-- Local days on which people were active, from 30 days before $from until $to, numbered, each with the person's next one.
--
-- Grain: one row per person and local day of $tz. day_number counts days since 1970-01-01; next_number is NULL for the last.
-- Source: sql/views/activity.sql.
SELECT
  person,
  day_number,
  lead(day_number) OVER (PARTITION BY person ORDER BY day_number) AS next_number
FROM (
  SELECT DISTINCT person, CAST(local_day(at, $tz) AS INT) AS day_number
  FROM activity
  WHERE day >= CAST($from AS DATE) - INTERVAL '32 days' AND day <= CAST($to AS DATE) AND at < $to
) AS days
