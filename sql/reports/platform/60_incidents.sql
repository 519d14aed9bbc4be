-- Incidents
--
-- Those that opened in the time and that people or monitoring reported; one without an end is still open.
SELECT
  last_value(title ORDER BY event_time, event_id) FILTER (WHERE title IS NOT NULL) AS incident,
  last_value(severity ORDER BY event_time, event_id) FILTER (WHERE severity IS NOT NULL) AS severity,
  min(event_time) AS opened_at,
  max(CASE WHEN name = 'resolved' THEN event_time END) AS resolved_at,
  CAST(CAST(round((date_part('epoch', max(CASE WHEN name = 'resolved' THEN event_time END)) - date_part('epoch', min(event_time)))
    / 60.0) AS BIGINT) AS TEXT) || ' min' AS duration
FROM raw_incident_events
GROUP BY coalesce(incident_id, event_id)
HAVING min(event_time) >= $from AND min(event_time) < $to
ORDER BY opened_at DESC, incident
