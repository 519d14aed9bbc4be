-- Sessions per day
--
-- Sessions of work in the editor (30 minutes without an event end one), by the UTC day on which they closed.
SELECT day, sessions, users, bounces, duration_p50_ms / 60000.0 AS duration_p50_minutes
FROM user_sessions_daily
WHERE day >= CAST($from AS DATE) AND day < CAST($to AS DATE)
ORDER BY day
