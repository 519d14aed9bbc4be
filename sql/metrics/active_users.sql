-- Active users
--
-- People with at least one event other than a heartbeat in a period of the calendar.
-- Grain: one row per period and breakdown. Units: users. Broken down by plan, country or editor, a user with two counts in both.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_days.sql; the definition is "unique users" of PostHog's trends.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  users,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT arrow_cast(period, 'Timestamp(Nanosecond, None)') AS period_start, breakdown, count(*) AS users
  FROM (
    SELECT unnest(periods) AS period, breakdown
    FROM (
      SELECT
        person,
        sorted_set(CAST(period_start(at, $interval, $tz) AS BIGINT)) AS periods,
        CASE $breakdown
          WHEN 'tier' THEN coalesce(tier, 'unknown')
          WHEN 'country' THEN coalesce(country, 'unknown')
          WHEN 'editor' THEN coalesce(editor, 'unknown')
          ELSE 'all'
        END AS breakdown
      FROM activity_days
      WHERE day >= CAST($from AS DATE)
        AND day <= CAST($to AS DATE)
        AND at >= $from
        AND at < $to
        AND ($tier IS NULL OR tier = $tier)
        AND ($country IS NULL OR country = $country)
        AND $interval IN ('day', 'week', 'month', 'quarter', 'year', 'all')
      GROUP BY person, breakdown
    ) AS people
  ) AS each
  GROUP BY period, breakdown
) AS periods
ORDER BY period_start, breakdown
