-- Each agent
--
-- Every agent that ran: how often, for how many people, how well, how fast (p95, within 1 %), what it cost as it told. Tokens: read and
-- written, cached ones not included.
SELECT agent, executions, users, 100.0 * successes / nullif(decided, 0) AS success_percent, duration_p95_ms, tokens, cost_usd
FROM agent_figures
ORDER BY executions DESC, agent
