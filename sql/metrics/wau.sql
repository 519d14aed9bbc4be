-- Weekly active users
--
-- People with an event other than a heartbeat in the seven days that end with the day.
-- Grain: one row per day. Units: users. Until the data is 30 days old the longer counts see fewer days than they are named after.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/trailing_users.sql; the definition is PostHog's weekly and monthly active users.
SELECT
  period_label(period_start, 'day', $tz) AS period,
  period_start,
  t.wau AS users,
  least(period_end(period_start, 'day', $tz), $to) <= $complete_through AS complete
FROM (
  SELECT at AS period_start, CAST(local_day(at, $tz) AS INT) AS day_number
  FROM (SELECT unnest(periods($from, $to, 'day', $tz)) AS at) AS days
) AS days
JOIN trailing_users AS t ON t.day_number = days.day_number
ORDER BY period_start
