-- Users and features on the first day on which the one ever used the other.
--
-- Grain: one row per user or installation and feature, on the UTC day of the first use (sql/rollups/feature_days.sql).
-- Lateness: a use that is late by days makes its day and all later days run again.
SELECT
  user_id,
  anonymous_id,
  feature,
  min(first_event) AS first_event
FROM feature_days
WHERE day = $day
  AND coalesce('u' || user_id, 'a' || anonymous_id) || chr(0) || feature NOT IN (
    SELECT coalesce('u' || user_id, 'a' || anonymous_id) || chr(0) || feature FROM feature_days WHERE day < $day
  )
GROUP BY user_id, anonymous_id, feature
