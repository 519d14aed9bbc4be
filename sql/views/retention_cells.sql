-- Of the people first seen in a period, those who came back.
--
-- Grain: one row per cohort (the $interval of the first event ever, in [$from, $to)) and n, the number of intervals after it, for
-- those that have begun. on: active in exactly that one; on or after: in that one or a later one, which may still grow.
-- complete: the interval has ended and its data is there. Source of the definition: PostHog's retention, first time.
WITH cohorts AS (
  SELECT person, period_start(first_at, $interval, $tz) AS cohort FROM first_seen WHERE first_at >= $from AND first_at < $to
),
returns AS (
  SELECT DISTINCT c.person, c.cohort, periods_between(c.cohort, a.at, $interval, $tz) AS n
  FROM cohorts AS c
  JOIN activity AS a ON a.person = c.person
  WHERE a.day >= CAST($from AS DATE) - INTERVAL '1 day'
),
cells AS (
  SELECT cohort, cohort_users, at, periods_between(cohort, at, $interval, $tz) AS n
  FROM (
    SELECT cohort, cohort_users, unnest(periods(cohort, $now, $interval, $tz)) AS at
    FROM (SELECT cohort, count(*) AS cohort_users FROM cohorts GROUP BY cohort) AS sizes
  ) AS starts
)
SELECT
  c.cohort,
  c.n,
  c.cohort_users,
  coalesce(o.users, 0) AS returned_on,
  coalesce(l.users, 0) AS returned_on_or_after,
  period_end(c.at, $interval, $tz) <= $complete_through AS complete
FROM cells AS c
LEFT JOIN (SELECT cohort, n, count(*) AS users FROM returns GROUP BY cohort, n) AS o ON o.cohort = c.cohort AND o.n = c.n
LEFT JOIN (
  SELECT cohort, n, sum(users) OVER (PARTITION BY cohort ORDER BY n DESC) AS users
  FROM (
    SELECT s.cohort, s.n, count(r.person) AS users
    FROM cells AS s
    LEFT JOIN (SELECT person, cohort, max(n) AS n FROM returns GROUP BY person, cohort) AS r
      ON r.cohort = s.cohort AND r.n = s.n
    GROUP BY s.cohort, s.n
  ) AS lasts
) AS l ON l.cohort = c.cohort AND l.n = c.n
