-- Trending agents
--
-- Agents whose installs grow: (installs of the last 7 days + 1) / (weekly installs of the 28 days before + 1) times the logarithm
-- of the unique installers. An installer counts once a day and agent; fewer than 10 unique installers trend nowhere.
-- Grain: one row per agent at the end of the time asked about, highest score first. Units: installs, installers.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/agent_installs.sql.
SELECT row_number() OVER (ORDER BY score DESC, agent) AS rank, agent, score, installs_7d, installers_7d, installs_prev_28d
FROM (
  SELECT
    agent,
    (installs_7d + 1.0) / (installs_prev_28d / 4.0 + 1.0) * ln(1.0 + installers_7d) AS score,
    installs_7d,
    installers_7d,
    installs_prev_28d
  FROM (
    SELECT
      agent,
      sum(CASE WHEN first_event >= $to - INTERVAL '7 days' THEN 1 ELSE 0 END) AS installs_7d,
      count(DISTINCT CASE WHEN first_event >= $to - INTERVAL '7 days' THEN installer END) AS installers_7d,
      sum(CASE WHEN first_event < $to - INTERVAL '7 days' THEN 1 ELSE 0 END) AS installs_prev_28d
    FROM agent_installs
    WHERE day >= CAST($to - INTERVAL '35 days' AS DATE)
      AND day <= CAST($to AS DATE)
      AND first_event >= $to - INTERVAL '35 days'
      AND first_event < $to
    GROUP BY agent
  ) AS counts
  WHERE installers_7d >= coalesce($installers_min, 10)
) AS scores
ORDER BY rank
