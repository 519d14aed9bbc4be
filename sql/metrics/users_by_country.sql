-- Users by country
--
-- Active people by the country of their events; who was in two counts in both, and `unknown` are those in none.
-- Grain: one row per country (ISO 3166-1 alpha-2, or `unknown`). Units: users; share of all active people.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_days.sql.
SELECT country, users, CAST(users AS DOUBLE) / people AS share
FROM (
  SELECT coalesce(country, 'unknown') AS country, count(*) AS users
  FROM (
    SELECT person, country, max(country) OVER (PARTITION BY person) AS known
    FROM (
      SELECT DISTINCT person, country
      FROM activity_days
      WHERE day >= CAST($from AS DATE)
        AND day <= CAST($to AS DATE)
        AND at >= $from
        AND at < $to
        AND ($tier IS NULL OR tier = $tier)
    ) AS places
  ) AS people
  WHERE country IS NOT NULL OR known IS NULL
  GROUP BY 1
) AS countries
CROSS JOIN (
  SELECT count(DISTINCT person) AS people
  FROM activity_days
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND at >= $from
    AND at < $to
    AND ($tier IS NULL OR tier = $tier)
) AS everybody
ORDER BY users DESC, country
