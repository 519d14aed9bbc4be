-- Days active
--
-- Users by the exact number of local days on which they were active.
-- Grain: one row per number of days that occurs. Units: users.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_days.sql; the definition is PostHog's "stickiness".
SELECT days_active, count(*) AS users
FROM (
  SELECT person, count(DISTINCT local_day(at, $tz)) AS days_active
  FROM activity_days
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND ($tier IS NULL OR tier = $tier)
    AND ($country IS NULL OR country = $country)
  GROUP BY person
) AS people
GROUP BY days_active
ORDER BY days_active
