-- Incidents
--
-- Those that opened in the time and that people or monitoring reported; one without an end is still open.
SELECT
  title AS incident,
  severity,
  opened_at,
  resolved_at,
  CAST(CAST(round((date_part('epoch', resolved_at) - date_part('epoch', opened_at)) / 60.0) AS BIGINT) AS TEXT) || ' min' AS duration
FROM reported_incidents
WHERE opened_at >= $from AND opened_at < $to
ORDER BY opened_at DESC, title
