-- The platform in numbers
--
-- Latency: of the server over all requests, from merged sketches: within 1 %. Errors: status codes of 500 and above. Incidents: those
-- that opened and were reported. Infrastructure: effective cost, US dollars. Storage: how much of all stores is used, at the last
-- sample.
SELECT
  p.piece,
  coalesce(api.requests, 0) AS requests,
  api.latency_p50_ms,
  api.latency_p95_ms,
  api.latency_p99_ms,
  api.errors_percent,
  coalesce(opened.incidents, 0) AS incidents,
  coalesce(cost.effective_usd, 0) AS infrastructure_cost_usd,
  storage.used_percent AS storage_used_percent
FROM report_pieces AS p
LEFT JOIN (
  SELECT
    piece,
    requests,
    sketch_percentile(latency_sketch, 0.5) AS latency_p50_ms,
    sketch_percentile(latency_sketch, 0.95) AS latency_p95_ms,
    sketch_percentile(latency_sketch, 0.99) AS latency_p99_ms,
    100.0 * errors / nullif(requests, 0) AS errors_percent
  FROM (
    SELECT piece, sum(requests) AS requests, sum(errors) AS errors, sketch_merge(latency_sketch) AS latency_sketch
    FROM api_pieces
    GROUP BY piece
  ) AS sums
) AS api ON api.piece = p.piece
LEFT JOIN (
  SELECT date_bin($step, CAST(opened_at AS TIMESTAMP), $from) AS piece, count(*) AS incidents
  FROM (SELECT min(event_time) AS opened_at FROM raw_incident_events GROUP BY coalesce(incident_id, event_id)) AS incidents
  WHERE opened_at >= $from AND opened_at < $to
  GROUP BY 1
) AS opened ON opened.piece = p.piece
LEFT JOIN cost_pieces AS cost ON cost.piece = p.piece
LEFT JOIN (
  SELECT piece, 100.0 * sum(used_bytes) / nullif(sum(capacity_bytes), 0) AS used_percent
  FROM (
    SELECT
      date_bin($step, CAST(event_time AS TIMESTAMP), $from) AS piece,
      last_value(live_bytes + coalesce(unreferenced_bytes, 0) ORDER BY event_time, event_id) AS used_bytes,
      last_value(capacity_bytes ORDER BY event_time, event_id) AS capacity_bytes
    FROM raw_storage_events
    WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
    GROUP BY 1, store
  ) AS stores
  GROUP BY piece
) AS storage ON storage.piece = p.piece
ORDER BY p.piece
