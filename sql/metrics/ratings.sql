-- Ratings
--
-- Reviews in the marketplace that gave stars, and their mean. Broken down by rating it is their distribution.
-- Grain: one row per period and breakdown. Units: reviews; reviewers are distinct ones of the period; stars as they were given.
-- Lateness: none is lost: it reads every event.
-- Source: raw_marketplace_events.
SELECT
  period_label(period_start, $interval, $tz) AS period,
  period_start,
  breakdown,
  reviews,
  reviewers,
  CAST(stars AS DOUBLE) / reviews AS rating_mean,
  least(period_end(period_start, $interval, $tz), $to) <= $complete_through AS complete
FROM (
  SELECT
    period_start(event_time, $interval, $tz) AS period_start,
    CASE $breakdown
      WHEN 'agent' THEN coalesce(agent, 'unnamed')
      WHEN 'publisher' THEN coalesce(publisher_id, 'unknown')
      WHEN 'rating' THEN CAST(rating AS TEXT)
      ELSE 'all'
    END AS breakdown,
    count(*) AS reviews,
    count(DISTINCT coalesce(user_id, account_id, anonymous_id)) AS reviewers,
    sum(rating) AS stars
  FROM raw_marketplace_events
  WHERE day >= CAST($from AS DATE)
    AND day <= CAST($to AS DATE)
    AND event_time >= $from
    AND event_time < $to
    AND name = 'reviewed'
    AND rating IS NOT NULL
    AND $interval IN ('day', 'hour', 'week', 'month', 'quarter', 'year', 'all')
    AND ($agent IS NULL OR agent = $agent)
    AND ($publisher IS NULL OR publisher_id = $publisher)
  GROUP BY 1, 2
) AS periods
ORDER BY period_start, reviews DESC, breakdown
