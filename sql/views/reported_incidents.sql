-- Incidents that people or monitoring reported.
--
-- Grain: one row per incident: what was said of it last, when it opened (UTC), and when it was resolved; one that is still open has no end.
-- Source: raw_incident_events.
SELECT
  coalesce(incident_id, event_id) AS incident,
  last_value(severity ORDER BY event_time, event_id) FILTER (WHERE severity IS NOT NULL) AS severity,
  last_value(service ORDER BY event_time, event_id) FILTER (WHERE service IS NOT NULL) AS service,
  last_value(title ORDER BY event_time, event_id) FILTER (WHERE title IS NOT NULL) AS title,
  min(event_time) AS opened_at,
  max(CASE WHEN name = 'resolved' THEN event_time END) AS resolved_at
FROM raw_incident_events
GROUP BY 1
