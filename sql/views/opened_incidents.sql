-- Incidents that opened in [$from, $to) and that people or monitoring reported, for a table that people read.
--
-- Grain: one row per incident; one without an end is still open. duration: whole minutes, in words.
-- Source: sql/views/reported_incidents.sql.
SELECT
  title AS incident,
  severity,
  opened_at,
  resolved_at,
  CAST(CAST(round((date_part('epoch', resolved_at) - date_part('epoch', opened_at)) / 60.0) AS BIGINT) AS TEXT) || ' min' AS duration
FROM reported_incidents
WHERE opened_at >= $from AND opened_at < $to
