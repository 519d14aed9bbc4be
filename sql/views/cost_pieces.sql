-- What infrastructure cost in each piece of [$from, $to), $step long.
--
-- Grain: one row per piece that has costs (`piece`, its start, UTC). Units: effective cost, US dollars.
-- Source: raw_cost_events.
SELECT
  date_bin($step, CAST(event_time AS TIMESTAMP), $from) AS piece,
  CAST(sum(CAST(effective_cost_usd AS DECIMAL(24, 9))) AS DOUBLE) AS effective_usd
FROM raw_cost_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1
