-- New users
--
-- People whose first event ever, other than a heartbeat, fell in the period.
-- Grain: one row per period and breakdown, by what the first event said. Units: users.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_first_seen.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  users,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(first_at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'tier' THEN coalesce(tier, 'unknown')
      WHEN 'country' THEN coalesce(country, 'unknown')
      WHEN 'editor' THEN coalesce(editor, 'unknown')
      ELSE 'all'
    END AS breakdown,
    count(*) AS users
  FROM first_seen
  WHERE first_at >= $from
    AND first_at < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($tier IS NULL OR tier = $tier)
    AND ($country IS NULL OR country = $country)
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, breakdown
