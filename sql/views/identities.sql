-- Which installation is whose.
--
-- Grain: one row per installation that was ever told to be a person's; the first telling stays. It works for events before and
-- after: metrics join it when they are asked, so a new telling changes no table and at once every answer.
-- Source of the definition: PostHog's identify and alias, with first-wins instead of merging two people.
SELECT anonymous_id, first_value(user_id ORDER BY event_time, event_id) AS user_id
FROM raw_identity_events
WHERE anonymous_id IS NOT NULL AND user_id IS NOT NULL
GROUP BY anonymous_id
