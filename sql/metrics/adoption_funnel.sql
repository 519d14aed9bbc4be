-- Adoption funnel
--
-- Active people, those of them who let the editor complete or asked an agent, those of these who ran an agent, and those of these
-- who ran a workflow, in any order within the time asked about.
-- Grain: one row per step; the first is the number of active users. Units: users; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/feature_days.sql.
WITH people AS (
  SELECT
    coalesce(d.user_id, i.user_id) AS person,
    max(CASE WHEN d.feature IN ('completion_accepted', 'agent_asked', 'agent run') THEN 1 ELSE 0 END) AS assisted,
    max(CASE WHEN d.feature = 'agent run' THEN 1 ELSE 0 END) AS ran_agent,
    max(CASE WHEN d.feature = 'workflow run' THEN 1 ELSE 0 END) AS ran_workflow
  FROM feature_days AS d
  LEFT JOIN identities AS i ON i.anonymous_id = d.anonymous_id
  WHERE d.day >= CAST($from AS DATE)
    AND d.day <= CAST($to AS DATE)
    AND d.last_event >= $from
    AND d.first_event < $to
    AND ($tier IS NULL OR d.tier = $tier)
    AND coalesce(d.user_id, i.user_id) IS NOT NULL
    AND coalesce(d.user_id, i.user_id) NOT IN (SELECT person FROM excluded_people)
  GROUP BY 1
),
steps AS (
  SELECT 1 AS step, 'active' AS name, count(*) AS users FROM people HAVING count(*) > 0
  UNION ALL
  SELECT 2, 'asked for help', sum(assisted) FROM people HAVING count(*) > 0
  UNION ALL
  SELECT 3, 'ran an agent', sum(assisted * ran_agent) FROM people HAVING count(*) > 0
  UNION ALL
  SELECT 4, 'ran a workflow', sum(assisted * ran_agent * ran_workflow) FROM people HAVING count(*) > 0
)
SELECT
  step,
  name,
  users,
  CAST(users AS DOUBLE) / nullif(lag(users) OVER (ORDER BY step), 0) AS rate_from_previous,
  CAST(users AS DOUBLE) / nullif(first_value(users) OVER (ORDER BY step), 0) AS rate_overall
FROM steps
ORDER BY step
