-- Active users by country
--
-- People by the country that their events tell; who was in two counts in both, and `unknown` are those in none.
SELECT country, count(*) AS users
FROM (
  SELECT person, coalesce(country, 'unknown') AS country
  FROM (
    SELECT person, country, max(country) OVER (PARTITION BY person) AS known
    FROM (
      SELECT DISTINCT person, country
      FROM activity_days
      WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND at >= $from AND at < $to
    ) AS places
  ) AS people
  WHERE country IS NOT NULL OR known IS NULL
) AS countries
GROUP BY country
ORDER BY users DESC, country
