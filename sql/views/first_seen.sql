-- When people were first seen, ever.
--
-- Grain: one row per person, with plan, country and editor of the first event. Source: sql/rollups/user_first_seen.sql.
SELECT
  coalesce(f.user_id, i.user_id) AS person,
  min(f.first_event) AS first_at,
  first_value(f.tier ORDER BY f.first_event, f.tier) AS tier,
  first_value(f.country ORDER BY f.first_event, f.country) AS country,
  first_value(f.editor ORDER BY f.first_event, f.editor) AS editor
FROM user_first_seen AS f
LEFT JOIN identities AS i ON i.anonymous_id = f.anonymous_id
WHERE coalesce(f.user_id, i.user_id) IS NOT NULL
  AND coalesce(f.user_id, i.user_id) NOT IN (SELECT person FROM excluded_people)
GROUP BY 1
