-- Storage over time
--
-- Bytes in use, and those that could be removed, at the last sample of each period.
-- Grain: one row per period and store that was sampled. Units: bytes.
-- Lateness: none is lost: it reads every event.
-- Source: raw_storage_events.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  store,
  live_bytes,
  unreferenced_bytes,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(event_time, $interval, $tz) AS period_start,
    coalesce(store, 'unnamed') AS store,
    last_value(live_bytes ORDER BY event_time, event_id) AS live_bytes,
    last_value(coalesce(unreferenced_bytes, 0) ORDER BY event_time, event_id) AS unreferenced_bytes
  FROM raw_storage_events
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND event_time >= $from
    AND event_time < $to
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year')
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, store
