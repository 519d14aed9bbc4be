-- User lifecycle
--
-- Active users by where they come from, and those who went. New: first seen in the period. Returning: active in the one before
-- too. Resurrecting: seen before, but not in the one before. Dormant: active in the one before, not in this one.
-- New, returning and resurrecting together are the active users.
-- Grain: one row per period. Units: users.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/activity_days.sql, sql/views/first_seen.sql; the definition is PostHog's lifecycle.
WITH people AS (
  SELECT
    p.periods,
    CAST(period_start(f.first_at, $interval, $tz) AS BIGINT) AS first_period
  FROM (
    SELECT person, sorted_set(CAST(period_start(at, $interval, $tz) AS BIGINT)) AS periods
    FROM activity_days
    WHERE day >= CAST(period_start(period_start($from, $interval, $tz) - INTERVAL '1 second', $interval, $tz) AS DATE)
      AND day <= CAST($to AS DATE)
      AND at >= period_start(period_start($from, $interval, $tz) - INTERVAL '1 second', $interval, $tz)
      AND at < $to
      AND $interval IN ('day', 'week', 'month')
    GROUP BY person
  ) AS p
  LEFT JOIN first_seen AS f ON f.person = p.person
),
moves AS (
  SELECT period, last_period, next_period, first_period = period AS new, first_period < period AS known, count(*) AS people
  FROM (
    SELECT
      unnest(periods) AS period,
      unnest(array_pop_front(periods)) AS next_period,
      unnest(array_prepend(CAST(NULL AS BIGINT), periods)) AS last_period,
      first_period
    FROM people
  ) AS each
  WHERE period IS NOT NULL
  GROUP BY 1, 2, 3, 4, 5
),
active AS (
  SELECT
    arrow_cast(period, 'Timestamp(Nanosecond, None)') AS period_start,
    arrow_cast(last_period, 'Timestamp(Nanosecond, None)') AS last_period,
    arrow_cast(next_period, 'Timestamp(Nanosecond, None)') AS next_period,
    new,
    known,
    people
  FROM moves
),
kinds AS (
  SELECT
    period_start,
    CASE WHEN new THEN 1 ELSE 0 END AS new,
    CASE WHEN known
      AND last_period = period_start(period_start - INTERVAL '1 second', $interval, $tz) THEN 1 ELSE 0 END AS came_back,
    CASE WHEN next_period IS NULL OR next_period > period_end(period_start, $interval, $tz) THEN 1 ELSE 0 END AS leaves,
    sum(people) AS people
  FROM active
  GROUP BY 1, 2, 3, 4
),
counts AS (
  SELECT
    unnest(make_array(period_start, period_end(period_start, $interval, $tz))) AS period_start,
    unnest(make_array(new * people, 0)) AS new,
    unnest(make_array(came_back * people, 0)) AS came_back,
    unnest(make_array(people, 0)) AS active,
    unnest(make_array(0, leaves * people)) AS dormant
  FROM kinds
)
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  sum(new) AS new,
  sum(came_back) AS "returning",
  sum(active) - sum(new) - sum(came_back) AS resurrecting,
  sum(dormant) AS dormant,
  sum(active) AS active,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM counts
WHERE period_start >= period_start($from, $interval, $tz) AND period_start < $to
GROUP BY period_start
ORDER BY period_start
