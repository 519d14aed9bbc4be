-- Local days on which people were active, from 30 days before $from until $to, numbered, each with the person's next one.
--
-- Grain: one row per person and local day of $tz. day_number counts days since 1970-01-01; next_number is NULL for the last.
-- Source: sql/views/activity_days.sql.
SELECT person, unnest(days) AS day_number, unnest(array_pop_front(days)) AS next_number
FROM (
  SELECT person, sorted_set(CAST(local_day(at, $tz) AS INT)) AS days
  FROM activity_days
  WHERE day >= CAST($from AS DATE) - INTERVAL '32 days' AND day <= CAST($to AS DATE) AND at < $to
  GROUP BY person
) AS people
