-- Monthly active users by calendar month
--
-- People with at least one event other than a heartbeat in a calendar month; `mau` has the trailing 30 days.
-- Grain: one row per period and breakdown. Units: users. Broken down by plan, country or editor, a user with two counts in both.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_days.sql; the definition is "unique users" of PostHog's trends.
SELECT
  period_label(period_start, 'month', $tz) AS period,
  period_start,
  breakdown,
  users,
  least(period_end(period_start, 'month', $tz), $to) <= $complete_through AS complete
FROM (
  SELECT arrow_cast(period, 'Timestamp(Nanosecond, None)') AS period_start, breakdown, count(*) AS users
  FROM (
    SELECT unnest(periods) AS period, breakdown
    FROM (
      SELECT person, sorted_set(CAST(period_start(at, 'month', $tz) AS BIGINT)) AS periods, breakdown
      FROM active_people
      GROUP BY person, breakdown
    ) AS people
  ) AS each
  GROUP BY period, breakdown
) AS periods
ORDER BY period_start, breakdown
