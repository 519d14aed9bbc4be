-- Who was active in [$from, $to), by what they are broken down by.
--
-- Grain: that of sql/views/activity_days.sql, of the plan and the country asked for. A metric that reads this has these breakdowns.
-- Source: sql/views/activity_days.sql.
SELECT
  person,
  at,
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
