-- Who used which feature on a day, as sets.
--
-- Grain: one row per UTC day, plan and feature, with the set of its users; one per day and plan without a feature, with the users of
-- any (`users` is a text_set); and one per day, plan, feature and installation that nobody had signed in on (`users` is NULL).
-- It holds nothing that sql/rollups/feature_days.sql does not hold, but sets of whole days are merged with less work than rows
-- of people are told apart. Units: uses. Lateness: as feature_days.
SELECT
  feature,
  tier,
  CAST(NULL AS TEXT) AS anonymous_id,
  text_set(user_id) AS users,
  sum(uses) AS uses
FROM feature_days
WHERE day = $day AND user_id IS NOT NULL
GROUP BY GROUPING SETS ((feature, tier), (tier))
UNION ALL
SELECT feature, tier, anonymous_id, NULL, uses
FROM feature_days
WHERE day = $day AND user_id IS NULL
