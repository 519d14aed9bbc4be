-- Sessions of work in the editor, none longer than 24 hours.
--
-- Grain: one row per session; one that went on for more than 24 hours is cut there, as often as needed: it is sessions of exactly
-- 24 hours and one of what was left. Times are UTC. bounce: a session of a single event, which lasts 0 ms.
-- Units: milliseconds. Source: pipelines/user_sessions.sql; the greatest length is that of PostHog's sessions.
SELECT user_id, first_event, last_event, duration_ms, events = 1 AS bounce, day
FROM user_sessions AS s
WHERE duration_ms <= 86400000 AND NOT EXISTS (SELECT 1 FROM excluded_people AS e WHERE e.person = s.user_id)
UNION ALL
SELECT
  user_id,
  first_event + arrow_cast(piece * 86400000000, 'Duration(Microsecond)') AS first_event,
  least(last_event, first_event + arrow_cast((piece + 1) * 86400000000, 'Duration(Microsecond)')) AS last_event,
  least(duration_ms - piece * 86400000, 86400000) AS duration_ms,
  events = 1 AS bounce,
  day
FROM (
  SELECT
    user_id, first_event, last_event, duration_ms, events, day,
    unnest(generate_series(0, greatest((duration_ms - 1) / 86400000, 0))) AS piece
  FROM user_sessions AS s
  WHERE duration_ms > 86400000 AND NOT EXISTS (SELECT 1 FROM excluded_people AS e WHERE e.person = s.user_id)
) AS pieces
