-- Who used which feature in [$from, $to), as sets to be merged.
--
-- Grain: any number of rows per feature, with a set of people and their uses; those without a feature are of all features together.
-- Those of sql/views/excluded_people.sql are in it where whole days are: who counts takes them, and their uses, out.
-- Whole UTC days come as sets, the days that the ends cut through as rows of people whose use of the day reaches into the time.
-- Source: sql/rollups/feature_users.sql, sql/rollups/feature_days.sql, sql/views/identities.sql.
SELECT feature, users AS people, uses
FROM feature_users
WHERE users IS NOT NULL
  AND day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND day < CAST($to AS DATE)
  AND ($tier IS NULL OR tier = $tier)
UNION ALL
SELECT u.feature, text_set(i.user_id), sum(u.uses)
FROM feature_users AS u
JOIN identities AS i ON i.anonymous_id = u.anonymous_id
WHERE u.users IS NULL
  AND u.day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
  AND u.day < CAST($to AS DATE)
  AND ($tier IS NULL OR u.tier = $tier)
  AND i.user_id NOT IN (SELECT person FROM excluded_people)
GROUP BY GROUPING SETS ((u.feature), ())
UNION ALL
SELECT d.feature, text_set(coalesce(d.user_id, i.user_id)), sum(d.uses)
FROM feature_days AS d
LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
WHERE d.day >= CAST($from AS DATE)
  AND d.day <= CAST($to AS DATE)
  AND (d.day < CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE) OR d.day >= CAST($to AS DATE))
  AND d.last_event >= $from
  AND d.first_event < $to
  AND ($tier IS NULL OR d.tier = $tier)
  AND coalesce(d.user_id, i.user_id) NOT IN (SELECT person FROM excluded_people)
  AND coalesce(d.user_id, i.user_id) IS NOT NULL
GROUP BY GROUPING SETS ((d.feature), ())
