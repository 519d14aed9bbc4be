-- Steps of workflows per day, and who took them.
--
-- Grain: one row per UTC day and name of an event, with the set of its users (`users`, a text_set).
-- Lateness: none is lost: it reads the raw table, and a day runs again when late events changed it. Units: events.
SELECT name, count(*) AS events, text_set(user_id) AS users
FROM raw_workflow_events
WHERE day = $day
GROUP BY name
