-- When people were active, for calendars: a moment on each local day of $tz.
--
-- Grain: one or two rows per UTC day, person, account, plan, country and editor: the first event, and the last one too where that is on
-- another local day of $tz, where the first is before $from and the last is not, or where nobody had signed in. So whoever was active
-- on a local day, or in [$from, $to) of it, has a row there; sql/views/activity.sql has twice as many, and is for clocks that know no days.
-- Source: sql/rollups/user_days.sql, sql/views/identities.sql.
SELECT person, account_id, tier, country, editor, at, day
FROM (
  SELECT user_id AS person, account_id, tier, country, editor, first_event AS at, day
  FROM user_days
  WHERE user_id IS NOT NULL
  UNION ALL
  SELECT user_id, account_id, tier, country, editor, last_event, day
  FROM user_days
  WHERE user_id IS NOT NULL
    AND (local_day(last_event, $tz) <> local_day(first_event, $tz) OR first_event < $from AND last_event >= $from)
  UNION ALL
  SELECT i.user_id, d.account_id, d.tier, d.country, d.editor, d.at, d.day
  FROM (
    SELECT anonymous_id, account_id, tier, country, editor, unnest(make_array(first_event, last_event)) AS at, day
    FROM user_days
    WHERE user_id IS NULL
  ) AS d
  JOIN identities AS i ON i.anonymous_id = d.anonymous_id
) AS moments
WHERE NOT EXISTS (SELECT 1 FROM excluded_people AS e WHERE e.person = moments.person)
