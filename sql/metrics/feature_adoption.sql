-- Feature adoption
--
-- People who used a feature, as a share of the people who were active; with `tier` both are of that plan. Depth: uses per adopter.
-- The time to adopt is the median, over those whose first use ever was in the time asked about, from first seen to first use.
-- Grain: one row per feature that was used. Units: users, uses, days.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/feature_days.sql, sql/rollups/feature_first_use.sql.
WITH used AS (
  SELECT coalesce(d.user_id, i.user_id) AS person, d.feature, sum(d.uses) AS uses
  FROM feature_days AS d
  LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
  WHERE d.day >= CAST($from AS DATE)
    AND d.day <= CAST($to AS DATE)
    AND d.last_event >= $from
    AND d.first_event < $to
    AND ($tier IS NULL OR d.tier = $tier)
    AND coalesce(d.user_id, i.user_id) IS NOT NULL
    AND coalesce(d.user_id, i.user_id) NOT IN (SELECT person FROM excluded_people)
  GROUP BY 1, 2
),
adopted AS (
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
  a.active_users,
  CAST(s.users AS DOUBLE) / nullif(a.active_users, 0) AS adoption,
  s.uses,
  CAST(s.uses AS DOUBLE) / s.users AS uses_per_user,
  adopted.days AS median_days_to_adopt
FROM (SELECT feature, count(*) AS users, sum(uses) AS uses FROM used GROUP BY feature) AS s
CROSS JOIN (SELECT count(DISTINCT person) AS active_users FROM used) AS a
LEFT JOIN adopted ON adopted.feature = s.feature
ORDER BY s.users DESC, s.uses DESC, s.feature
