-- Users by country
--
-- Active people by the country of their events; who was in two counts in both.
-- Grain: one row per country (ISO 3166-1 alpha-2, or `unknown`). Units: users; share of all active people.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_days.sql.
SELECT country, users, CAST(users AS DOUBLE) / (SELECT count(DISTINCT person) FROM activity
    WHERE day >= CAST($from AS DATE)
      AND day <= CAST($to AS DATE)
      AND at >= $from
      AND at < $to
  ) AS share
FROM (
  SELECT coalesce(country, 'unknown') AS country, count(DISTINCT person) AS users
  FROM activity
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND ($tier IS NULL OR tier = $tier)
  GROUP BY 1
) AS countries
ORDER BY users DESC, country
