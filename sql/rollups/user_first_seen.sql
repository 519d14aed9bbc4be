-- Users and installations on the first day on which they were ever seen.
--
-- Grain: one row per user or installation, on the UTC day of its first qualifying event (sql/rollups/user_days.sql), with plan,
-- country and editor of that event. It is the memory of who is new: no metric takes the first event of a queried range for it.
-- Lateness: an event that is late by days makes its day and all later days run again.
SELECT
  user_id,
  anonymous_id,
  min(first_event) AS first_event,
  first_value(tier ORDER BY first_event, tier, country, editor) AS tier,
  first_value(country ORDER BY first_event, tier, country, editor) AS country,
  first_value(editor ORDER BY first_event, tier, country, editor) AS editor
FROM user_days
WHERE day = $day
  AND coalesce('u' || user_id, 'a' || anonymous_id) NOT IN (
    SELECT coalesce('u' || user_id, 'a' || anonymous_id) FROM user_days WHERE day < $day
  )
GROUP BY user_id, anonymous_id
