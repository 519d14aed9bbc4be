-- Installs
--
-- Installs of agents from the marketplace. An installer (the account, else the user, else the installation) counts once a UTC day
-- and agent, however often it installs: counters cannot be pumped up by one account.
-- Grain: one row per period and breakdown. Units: installs; installers and agents are distinct ones of the period.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/rollups/agent_installs.sql.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  installs,
  installers,
  agents,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(first_event, $interval, $tz) AS period_start,
    CASE $breakdown WHEN 'agent' THEN agent ELSE 'all' END AS breakdown,
    count(*) AS installs,
    count(DISTINCT installer) AS installers,
    count(DISTINCT agent) AS agents
  FROM agent_installs
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND first_event >= $from
    AND first_event < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($agent IS NULL OR agent = $agent)
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, installs DESC, breakdown
