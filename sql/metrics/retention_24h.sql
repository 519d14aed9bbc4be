-- Retention by 24 hours
--
-- Of the people first seen in the time asked about, those who came back in the n-th stretch of 24 hours after their own first event:
-- from n * 24 hours on, and before (n + 1) * 24. Days of the calendar play no part, so it differs from `retention`.
-- Grain: one row per n of 1, 7 and 30. Units: users; rates are fractions of the people whose stretch is over.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/activity.sql, sql/views/first_seen.sql; the definition is Mixpanel's.
WITH people AS (
  SELECT person, CAST(CAST(first_at AS TIMESTAMP) AS BIGINT) AS first_ns FROM first_seen WHERE first_at >= $from AND first_at < $to
),
returns AS (
  SELECT DISTINCT person, n
  FROM (
    SELECT p.person, (CAST(CAST(a.at AS TIMESTAMP) AS BIGINT) - p.first_ns) / 86400000000000 AS n
    FROM people AS p
    JOIN activity AS a ON a.person = p.person
    WHERE a.day >= CAST($from AS DATE)
  ) AS moments
  WHERE n IN (1, 7, 30)
)
SELECT
  w.n,
  count(DISTINCT p.person) AS cohort_users,
  count(DISTINCT r.person) AS returned,
  CAST(count(DISTINCT r.person) AS DOUBLE) / nullif(count(DISTINCT p.person), 0) AS rate
FROM (VALUES (1), (7), (30)) AS w (n)
JOIN people AS p ON p.first_ns + (w.n + 1) * 86400000000000 <= CAST(CAST($complete_through AS TIMESTAMP) AS BIGINT)
LEFT JOIN returns AS r ON r.person = p.person AND r.n = w.n
GROUP BY w.n
ORDER BY w.n
