-- Of the people first seen in a period, those who came back.
--
-- Grain: one row per cohort (the $interval of the first event ever, in [$from, $to)) and n, the number of intervals after it, for
-- those that have begun. on: active in exactly that one; on or after: in that one or a later one, which may still grow.
-- complete: the interval has ended and its data is there. Source of the definition: PostHog's retention, first time.
WITH cohorts AS (
  SELECT person, period_start(first_at, $interval, $tz) AS cohort FROM first_seen WHERE first_at >= $from AND first_at < $to
),
returns AS (
  SELECT cohort, n, count(*) AS users, sum(CASE WHEN next_n IS NULL THEN 1 ELSE 0 END) AS last_users
  FROM (
    SELECT cohort, unnest(ns) AS n, unnest(array_pop_front(ns)) AS next_n
    FROM (
      SELECT c.cohort, sorted_set(periods_between(c.cohort, a.at, $interval, $tz)) AS ns
      FROM cohorts AS c
      JOIN activity_days AS a ON a.person = c.person
      WHERE a.day >= CAST($from AS DATE) - INTERVAL '1 day'
      GROUP BY c.person, c.cohort
    ) AS people
  ) AS each
  GROUP BY cohort, n
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
  coalesce(r.users, 0) AS returned_on,
  sum(coalesce(r.last_users, 0)) OVER (PARTITION BY c.cohort ORDER BY c.n DESC) AS returned_on_or_after,
  period_end(c.at, $interval, $tz) <= $complete_through AS complete
FROM cells AS c
LEFT JOIN returns AS r ON r.cohort = c.cohort AND r.n = c.n
