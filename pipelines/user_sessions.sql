-- Sessions of work in the editor, per user.
--
-- Grain: one row per session: events of one user with less than 30 minutes between neighbours. Events without a user_id
-- belong to no session.
-- first_event and last_event are times of events, UTC; the window ends 30 minutes after the last event, which is when the
-- session closed and the row appears. A session of a single event lasts 0 ms.
-- Units: milliseconds. Lateness: one minute (pipelines/sources.sql).
-- Source of the definition: PostHog and GA4 sessions (30 minutes of inactivity). A session has no greatest length here;
-- sql/views/session_pieces.sql cuts it after 24 hours.
INSERT INTO user_sessions
SELECT
  user_id,
  first_event,
  last_event,
  (CAST(last_event AS BIGINT) - CAST(first_event AS BIGINT)) / 1000000 AS duration_ms,
  events
FROM (
  SELECT
    session(INTERVAL '30 minutes') AS w,
    user_id,
    min(event_time) AS first_event,
    max(event_time) AS last_event,
    count(*) AS events
  FROM ide_events
  WHERE user_id IS NOT NULL
  GROUP BY 1, user_id
);
