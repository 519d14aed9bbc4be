-- When people were active: the first and the last qualifying event of each UTC day.
--
-- Grain: one or two rows per UTC day, person, account, plan, country and editor. `at` is a moment of activity, UTC; on no local
-- day of any zone is there activity without a row on it. Installations that nobody signed in on are left out,
-- and those of sql/views/excluded_people.sql.
-- Source: sql/rollups/user_days.sql, sql/views/identities.sql.
SELECT person, account_id, tier, country, editor, at, day
FROM (
  SELECT
    coalesce(d.user_id, i.user_id) AS person,
    d.account_id,
    d.tier,
    d.country,
    d.editor,
    d.at,
    d.day
  FROM (
    SELECT user_id, anonymous_id, account_id, tier, country, editor, first_event AS at, day FROM user_days
    UNION ALL
    SELECT user_id, anonymous_id, account_id, tier, country, editor, last_event AS at, day
    FROM user_days
    WHERE last_event > first_event
  ) AS d
  LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
) AS moments
WHERE person IS NOT NULL AND NOT EXISTS (SELECT 1 FROM excluded_people AS e WHERE e.person = moments.person)
