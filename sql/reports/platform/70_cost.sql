-- Infrastructure cost by service
--
-- By the start of the charge period, US dollars: effective (commitments spread over their use), billed (on invoices) and at list price.
SELECT
  coalesce(service_name, 'unknown') AS service,
  CAST(sum(CAST(coalesce(effective_cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS effective_usd,
  CAST(sum(CAST(coalesce(billed_cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS billed_usd,
  CAST(sum(CAST(coalesce(list_cost_usd, 0) AS DECIMAL(24, 9))) AS DOUBLE) AS list_usd
FROM raw_cost_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1
ORDER BY effective_usd DESC, service
