-- The pieces of [$from, $to) that a report's headline has figures of: each $step long.
--
-- Grain: one row per piece. `piece` is its start, UTC. Figures take part in a piece by date_bin($step, at, $from).
SELECT unnest(range($from, $to, $step)) AS piece
