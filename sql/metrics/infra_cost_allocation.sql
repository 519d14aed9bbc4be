-- Infrastructure cost by agent
--
-- Effective cost that resources of an agent caused directly, its part of shared ones by its share of all executions, and what was
-- paid for idle resources as a row of its own.
-- Grain: one row per agent, and `idle`. Units: US dollars, executions; unit cost is per execution.
-- Lateness: none is lost: it reads every event.
-- Source: raw_cost_events, sql/views/agent_totals.sql; the method is OpenCost's.
WITH costs AS (
  SELECT
    owner,
    sum(coalesce(effective_cost_usd, 0) * (1.0 - coalesce(idle_share, 0))) AS used_usd,
    sum(coalesce(effective_cost_usd, 0) * coalesce(idle_share, 0)) AS idle_usd
  FROM raw_cost_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  GROUP BY owner
),
usage AS (
  SELECT agent AS owner, sum(executions) AS executions
  FROM agent_totals
  WHERE cut IN ('day agent', 'agent') AND agent IS NOT NULL
  GROUP BY agent
),
shares AS (
  SELECT owner, executions, CAST(executions AS DOUBLE) / nullif(sum(executions) OVER (), 0) AS share FROM usage
)
SELECT
  owner,
  kind,
  direct_usd,
  shared_usd,
  direct_usd + shared_usd AS cost_usd,
  executions,
  (direct_usd + shared_usd) / nullif(executions, 0) AS unit_cost_usd
FROM (
  SELECT
    coalesce(c.owner, s.owner) AS owner,
    'direct+shared' AS kind,
    coalesce(c.used_usd, 0.0) AS direct_usd,
    coalesce(s.share, 0.0) * coalesce((SELECT sum(used_usd) FROM costs WHERE owner IS NULL), 0.0) AS shared_usd,
    coalesce(s.executions, 0) AS executions
  FROM (SELECT * FROM costs WHERE owner IS NOT NULL) AS c
  FULL JOIN shares AS s ON s.owner = c.owner
  UNION ALL
  SELECT 'idle', 'idle', sum(idle_usd), 0.0, 0 FROM costs HAVING sum(idle_usd) > 0
) AS rows
ORDER BY cost_usd DESC, owner
