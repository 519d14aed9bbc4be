-- Who ran which agent on a day, as sets.
--
-- Grain: one row per UTC day and agent, with the set of its users (`users`, a text_set), and one per day, agent and installation that
-- nobody had signed in on (`users` is NULL). It holds nothing that sql/rollups/agent_user_days.sql does not hold, but sets of whole
-- days are merged with less work than rows of people are told apart. Lateness: as agent_user_days.
SELECT agent, CAST(NULL AS TEXT) AS anonymous_id, text_set(user_id) AS users
FROM agent_user_days
WHERE day = $day AND user_id IS NOT NULL
GROUP BY agent
UNION ALL
SELECT agent, anonymous_id, NULL
FROM agent_user_days
WHERE day = $day AND user_id IS NULL AND anonymous_id IS NOT NULL
