-- Distinct active users of each day and of the 7 and 30 days that end with it.
--
-- Grain: one row per local day of $tz from 32 days before $from until $to. A day of activity counts for itself and for the days
-- after it until the person is active again: sums of +1 and -1 give every trailing count exactly, in one pass.
-- Source: sql/views/person_days.sql.
SELECT
  day_number,
  sum(dau) OVER (ORDER BY day_number) AS dau,
  sum(wau) OVER (ORDER BY day_number) AS wau,
  sum(mau) OVER (ORDER BY day_number) AS mau
FROM (
  SELECT day_number, sum(dau) AS dau, sum(wau) AS wau, sum(mau) AS mau
  FROM (
    SELECT day_number, 1 AS dau, 1 AS wau, 1 AS mau FROM person_days
    UNION ALL
    SELECT day_number + 1, -1, 0, 0 FROM person_days
    UNION ALL
    SELECT least(day_number + 7, coalesce(next_number, day_number + 7)), 0, -1, 0 FROM person_days
    UNION ALL
    SELECT least(day_number + 30, coalesce(next_number, day_number + 30)), 0, 0, -1 FROM person_days
    UNION ALL
    SELECT CAST(local_day(at, $tz) AS INT), 0, 0, 0
    FROM (SELECT unnest(periods($from, $to, 'day', $tz)) AS at) AS days
  ) AS changes
  GROUP BY day_number
) AS sums
