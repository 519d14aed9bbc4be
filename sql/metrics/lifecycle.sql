-- User lifecycle
--
-- Active users by where they come from, and those who went. New: first seen in the period. Returning: active in the one before
-- too. Resurrecting: seen before, but not in the one before. Dormant: active in the one before, not in this one.
-- New, returning and resurrecting together are the active users.
-- Grain: one row per period. Units: users.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/activity.sql, sql/views/first_seen.sql; the definition is PostHog's lifecycle.
WITH active AS (
  SELECT
    p.person,
    p.period_start,
    lag(p.period_start) OVER (PARTITION BY p.person ORDER BY p.period_start) AS last_period,
    lead(p.period_start) OVER (PARTITION BY p.person ORDER BY p.period_start) AS next_period,
    period_start(f.first_at, $interval, $tz) AS first_period
  FROM (
    SELECT DISTINCT person, period_start(at, $interval, $tz) AS period_start
    FROM activity
    WHERE day >= CAST(period_start(period_start($from, $interval, $tz) - INTERVAL '1 second', $interval, $tz) AS DATE)
      AND day <= CAST($to AS DATE)
      AND at >= period_start(period_start($from, $interval, $tz) - INTERVAL '1 second', $interval, $tz)
      AND at < $to
      AND $interval IN ('day', 'week', 'month')
  ) AS p
  LEFT JOIN first_seen AS f ON f.person = p.person
),
counts AS (
  SELECT
    period_start,
    sum(CASE WHEN first_period = period_start THEN 1 ELSE 0 END) AS new,
    sum(CASE WHEN first_period < period_start
      AND last_period = period_start(period_start - INTERVAL '1 second', $interval, $tz) THEN 1 ELSE 0 END) AS came_back,
    count(*) AS active,
    0 AS dormant
  FROM active
  GROUP BY period_start
  UNION ALL
  SELECT period_end(period_start, $interval, $tz), 0, 0, 0, count(*)
  FROM active
  WHERE next_period IS NULL OR next_period > period_end(period_start, $interval, $tz)
  GROUP BY 1
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
