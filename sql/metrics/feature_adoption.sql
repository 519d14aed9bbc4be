-- Feature adoption
--
-- People who used a feature, as a share of the people who were active; with `tier` both are of that plan. Depth: uses per adopter.
-- The time to adopt is the median, over those whose first use ever was in the time asked about, from first seen to first use.
-- Grain: one row per feature that was used. Units: users, uses, days.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/feature_people.sql, sql/rollups/feature_first_use.sql.
WITH adopted AS (
  SELECT u.feature, percentile_disc(date_part('epoch', u.first_at) - date_part('epoch', f.first_at), 0.5) / 86400.0 AS days
  FROM (
    SELECT coalesce(d.user_id, i.user_id) AS person, d.feature, min(d.first_event) AS first_at
    FROM feature_first_use AS d
    LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
    GROUP BY 1, 2
  ) AS u
  JOIN first_seen AS f ON f.person = u.person
  WHERE u.first_at >= $from AND u.first_at < $to
  GROUP BY u.feature
)
SELECT
  s.feature,
  s.users,
  s.active_users,
  CAST(s.users AS DOUBLE) / nullif(s.active_users, 0) AS adoption,
  s.uses,
  CAST(s.uses AS DOUBLE) / s.users AS uses_per_user,
  adopted.days AS median_days_to_adopt
FROM (
  SELECT feature, users, uses, max(CASE WHEN feature IS NULL THEN users END) OVER () AS active_users
  FROM (
    SELECT
      f.feature,
      text_set_count(f.people) - coalesce(text_set_count(text_set_common(f.people, e.people)), 0) AS users,
      f.uses - coalesce(x.uses, 0) AS uses
    FROM (SELECT feature, text_set_merge(people) AS people, sum(uses) AS uses FROM feature_people GROUP BY feature) AS f
    CROSS JOIN (SELECT text_set(person) AS people FROM excluded_people) AS e
    LEFT JOIN (
      -- Those who were never seen are looked up in a small table first: where none was, the large one is not read at all.
      SELECT d.feature, sum(d.uses) AS uses
      FROM (
        SELECT DISTINCT s.user_id FROM user_first_seen AS s JOIN excluded_people AS e ON e.person = s.user_id
      ) AS seen
      JOIN feature_days AS d ON d.user_id = seen.user_id
      WHERE d.day >= CAST($from + INTERVAL '1 day' - INTERVAL '1 nanosecond' AS DATE)
        AND d.day < CAST($to AS DATE)
        AND ($tier IS NULL OR d.tier = $tier)
      GROUP BY d.feature
    ) AS x ON x.feature = f.feature
  ) AS used
) AS s
LEFT JOIN adopted ON adopted.feature = s.feature
WHERE s.feature IS NOT NULL AND s.users > 0
ORDER BY s.users DESC, s.uses DESC, s.feature
