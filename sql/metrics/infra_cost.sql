-- Infrastructure cost
--
-- What infrastructure cost, by the start of the charge period: billed (on invoices), effective (commitments spread over their use)
-- and at list price. Corrections and credits are in it.
-- Grain: one row per period and breakdown. Units: US dollars.
-- Lateness: none is lost: it reads every event. A late bill restates the past.
-- Source: raw_cost_events; the columns are FOCUS 1.x.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  billed_usd,
  effective_usd,
  list_usd,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(event_time, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'service' THEN coalesce(service_name, 'unknown')
      WHEN 'category' THEN coalesce(charge_category, 'unknown')
      WHEN 'resource' THEN coalesce(resource_id, 'unknown')
      ELSE 'all'
    END AS breakdown,
    CAST(sum(CAST(coalesce(billed_cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS billed_usd,
    CAST(sum(CAST(coalesce(effective_cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS effective_usd,
    CAST(sum(CAST(coalesce(list_cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS list_usd
  FROM raw_cost_events
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND event_time >= $from
    AND event_time < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, breakdown
