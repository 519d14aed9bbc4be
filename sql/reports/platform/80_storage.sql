-- Storage
--
-- Each store at the last sample of the time: what is in use, what could be removed, and how full that makes it.
SELECT
  store,
  100.0 * (live_bytes + unreferenced_bytes) / nullif(capacity_bytes, 0) AS used_percent,
  live_bytes / 1000000000.0 AS live_gigabytes,
  unreferenced_bytes / 1000000000.0 AS removable_gigabytes,
  capacity_bytes / 1000000000.0 AS capacity_gigabytes
FROM (
  SELECT
    coalesce(store, 'unnamed') AS store,
    last_value(live_bytes ORDER BY event_time, event_id) AS live_bytes,
    last_value(coalesce(unreferenced_bytes, 0) ORDER BY event_time, event_id) AS unreferenced_bytes,
    last_value(capacity_bytes ORDER BY event_time, event_id) AS capacity_bytes
  FROM raw_storage_events
  WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
  GROUP BY 1
) AS stores
ORDER BY used_percent DESC, store
