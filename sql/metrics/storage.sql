-- Storage
--
-- How full each store was at the last sample before the end of the time asked about, how fast its bytes grew over the 30 days
-- before (a straight line by least squares), and when it is full at that rate; none where it does not grow or has no bound.
-- Grain: one row per store. Units: bytes, days; shares are fractions.
-- Lateness: none is lost: it reads every event.
-- Source: raw_storage_events.
SELECT
  store,
  live_bytes,
  unreferenced_bytes,
  capacity_bytes,
  CAST(live_bytes + unreferenced_bytes AS DOUBLE) / nullif(capacity_bytes, 0) AS used_share,
  growth_bytes_per_day,
  CASE WHEN growth_bytes_per_day > 0
    THEN greatest(CAST(capacity_bytes - live_bytes - unreferenced_bytes AS DOUBLE), 0.0) / growth_bytes_per_day END AS days_to_full
FROM (
  SELECT
    store,
    last_value(live_bytes ORDER BY event_time, event_id) AS live_bytes,
    last_value(coalesce(unreferenced_bytes, 0) ORDER BY event_time, event_id) AS unreferenced_bytes,
    last_value(capacity_bytes ORDER BY event_time, event_id) AS capacity_bytes,
    regr_slope(
      CAST(live_bytes + coalesce(unreferenced_bytes, 0) AS DOUBLE),
      (date_part('epoch', event_time) - date_part('epoch', $to)) / 86400.0
    ) AS growth_bytes_per_day
  FROM raw_storage_events
  WHERE day >= CAST($to - INTERVAL '30 days' AS DATE)
    AND day <= CAST($to AS DATE)
    AND event_time >= $to - INTERVAL '30 days'
    AND event_time < $to
    AND store IS NOT NULL
  GROUP BY store
) AS stores
ORDER BY live_bytes DESC, store
