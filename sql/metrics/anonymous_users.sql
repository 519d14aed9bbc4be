-- Anonymous installations
--
-- Installations with at least one event other than a heartbeat on which nobody was ever told to have signed in: they are in no count of
-- users. One that signs in later leaves this count for all of its past, and its events are that person's.
-- Grain: one row per period and breakdown. Units: installations.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/user_days.sql, sql/views/identities.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  installations,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(d.at, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'country' THEN coalesce(d.country, 'unknown')
      WHEN 'editor' THEN coalesce(d.editor, 'unknown')
      ELSE 'all'
    END AS breakdown,
    count(DISTINCT d.anonymous_id) AS installations
  FROM (
    SELECT anonymous_id, country, editor, first_event AS at FROM user_days
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND user_id IS NULL
    UNION ALL
    SELECT anonymous_id, country, editor, last_event AS at FROM user_days
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND user_id IS NULL AND last_event > first_event
  ) AS d
  LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
  WHERE i.user_id IS NULL
    AND d.at >= $from
    AND d.at < $to
    AND $interval IN ('day', 'week', 'month', 'quarter', 'year', 'all')
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, breakdown
