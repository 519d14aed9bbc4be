-- The platform in numbers
--
-- Latency: of the server over all requests, from merged sketches: within 1 %. Errors: status codes of 500 and above. Incidents: those
-- that opened and were reported. Infrastructure: effective cost, US dollars. Storage: how much of all stores is used, at the last
-- sample.
SELECT
  api.requests,
  api.latency_p50_ms,
  api.latency_p95_ms,
  api.latency_p99_ms,
  api.errors_percent,
  (SELECT count(*) FROM (
    SELECT min(event_time) AS opened_at FROM raw_incident_events GROUP BY coalesce(incident_id, event_id)
  ) AS incidents WHERE opened_at >= $from AND opened_at < $to) AS incidents,
  (SELECT CAST(coalesce(sum(CAST(effective_cost_usd AS DECIMAL(24, 9))), 0) AS DOUBLE) FROM raw_cost_events
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to)
    AS infrastructure_cost_usd,
  (SELECT 100.0 * sum(used_bytes) / nullif(sum(capacity_bytes), 0) FROM (
    SELECT
      last_value(live_bytes + coalesce(unreferenced_bytes, 0) ORDER BY event_time, event_id) AS used_bytes,
      last_value(capacity_bytes ORDER BY event_time, event_id) AS capacity_bytes
    FROM raw_storage_events
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
    GROUP BY store
  ) AS stores) AS storage_used_percent
FROM (
  SELECT
    coalesce(sum(requests), 0) AS requests,
    sketch_percentile(sketch_merge(latency_sketch), 0.5) AS latency_p50_ms,
    sketch_percentile(sketch_merge(latency_sketch), 0.95) AS latency_p95_ms,
    sketch_percentile(sketch_merge(latency_sketch), 0.99) AS latency_p99_ms,
    100.0 * sum(errors) / nullif(sum(requests), 0) AS errors_percent
  FROM api_totals
  WHERE cut IN ('day all', 'all')
) AS api
