-- Incidents
--
-- Those that opened in the time and that people or monitoring reported; one without an end is still open.
SELECT * FROM opened_incidents ORDER BY opened_at DESC, incident
