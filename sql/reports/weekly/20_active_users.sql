-- Active users per day
--
-- People with at least one event other than a heartbeat, and those of them who were first seen ever.
SELECT d.day, d.users, coalesce(n.new_users, 0) AS new_users
FROM (
  SELECT local_day(at, $tz) AS day, count(DISTINCT person) AS users
  FROM activity_days
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to
  GROUP BY 1
) AS d
LEFT JOIN (
  SELECT local_day(first_at, $tz) AS day, count(*) AS new_users FROM first_seen WHERE first_at >= $from AND first_at < $to GROUP BY 1
) AS n ON n.day = d.day
ORDER BY d.day
