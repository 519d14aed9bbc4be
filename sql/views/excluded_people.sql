-- People whose events are nobody's use: tests, bots, the team itself.
--
-- Grain: one row per person, by the name that a user has in events. What counts users (sql/views/activity.sql, first_seen.sql, features,
-- sessions) leaves them out, at once and for all of the past; executions and requests stay, since they cost what others cost.
-- Write your own into the list; a SELECT over a table will do too.
SELECT person FROM (VALUES ('synthetic-monitoring')) AS people (person)
