-- Executions of AI agents per 15 minutes: the grain of which every hour and day of any time zone is made.
--
-- Grain: one row per 15 minutes (`at`, their start, UTC), agent, model, plan, status and error class that had an execution.
-- Executions: events that tell an end; those that began are not counted. cost_usd is the producer's own figure;
-- cost_list_usd is tokens by kind times the list price that was valid at the event (sql table price_events), 0 without one.
-- duration_sketch: a mergeable sketch of the times, each quantile within 1 % (sketch_percentile reads it).
-- Units: tokens, US dollars, milliseconds. Lateness: none is lost; a day runs again when late events or prices changed it.
SELECT
  date_bin(INTERVAL '15 minutes', e.event_time, TIMESTAMP '1970-01-01T00:00:00') AS at,
  e.agent,
  e.model,
  e.tier,
  e.status,
  e.error_class,
  count(e.status) AS executions,
  sum(coalesce(e.tokens_input, 0)) AS tokens_input,
  sum(coalesce(e.tokens_output, 0)) AS tokens_output,
  sum(coalesce(e.tokens_cache_read, 0)) AS tokens_cache_read,
  sum(coalesce(e.tokens_cache_write, 0)) AS tokens_cache_write,
  CAST(sum(CAST(coalesce(e.cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS cost_usd,
  CAST(sum(CAST(coalesce((
      coalesce(e.tokens_input, 0) * p.input_usd_per_million
      + coalesce(e.tokens_output, 0) * p.output_usd_per_million
      + coalesce(e.tokens_cache_read, 0) * coalesce(p.cache_read_usd_per_million, 0)
      + coalesce(e.tokens_cache_write, 0) * coalesce(p.cache_write_usd_per_million, 0)
    ) / 1000000, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS cost_list_usd,
  count(e.duration_ms) AS timed,
  CAST(sum(CAST(coalesce(e.duration_ms, 0) AS DECIMAL(24, 6))) AS DOUBLE) AS duration_ms,
  sketch(e.duration_ms) AS duration_sketch
FROM (SELECT * FROM raw_agent_events WHERE day = $day AND status IS DISTINCT FROM 'started') AS e
LEFT JOIN (
  SELECT
    model,
    input_usd_per_million,
    output_usd_per_million,
    cache_read_usd_per_million,
    cache_write_usd_per_million,
    event_time AS valid_from,
    lead(event_time) OVER (PARTITION BY model ORDER BY event_time, event_id) AS valid_to
  FROM raw_price_events
  WHERE day <= $day
) AS p
  ON p.model = e.model AND e.event_time >= p.valid_from AND (p.valid_to IS NULL OR e.event_time < p.valid_to)
GROUP BY 1, e.agent, e.model, e.tier, e.status, e.error_class
