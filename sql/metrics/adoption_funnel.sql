-- Adoption funnel
--
-- Active people, those of them who let the editor complete or asked an agent, those of these who ran an agent, and those of these
-- who ran a workflow, in any order within the time asked about.
-- Grain: one row per step; the first is the number of active users. Units: users; rates are fractions.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/feature_people.sql.
WITH people AS (
  SELECT
    text_set_merge(people) FILTER (WHERE feature IS NULL) AS active,
    text_set_merge(people) FILTER (WHERE feature IN ('completion_accepted', 'agent_asked', 'agent run')) AS assisted,
    text_set_merge(people) FILTER (WHERE feature = 'agent run') AS ran_agent,
    text_set_merge(people) FILTER (WHERE feature = 'workflow run') AS ran_workflow
  FROM feature_people
),
steps AS (
  SELECT
    unnest(make_array(1, 2, 3, 4)) AS step,
    unnest(make_array('active', 'asked for help', 'ran an agent', 'ran a workflow')) AS name,
    unnest(make_array(
      active,
      assisted,
      text_set_common(assisted, ran_agent),
      text_set_common(text_set_common(assisted, ran_agent), ran_workflow)
    )) AS people,
    active
  FROM people
  WHERE active IS NOT NULL
),
counts AS (
  SELECT s.step, s.name, coalesce(text_set_count(s.people), 0) - coalesce(text_set_count(text_set_common(s.people, e.people)), 0) AS users
  FROM steps AS s
  CROSS JOIN (SELECT text_set(person) AS people FROM excluded_people) AS e
)
SELECT
  step,
  name,
  users,
  CAST(users AS DOUBLE) / nullif(lag(users) OVER (ORDER BY step), 0) AS rate_from_previous,
  CAST(users AS DOUBLE) / nullif(first_value(users) OVER (ORDER BY step), 0) AS rate_overall
FROM counts
ORDER BY step
