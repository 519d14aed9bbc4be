-- Distinct active users of each day and of the 7 and 30 days that end with it.
--
-- Grain: one row per local day of $tz from 32 days before $from until $to. A day of activity counts for itself and for the days
-- after it until the person is active again: sums of +1 and -1 give every trailing count exactly, in one pass. Days are counted by
-- the days until the next one before that, so what is added up are some thousand rows.
-- Source: sql/views/person_days.sql.
SELECT
  day_number,
  sum(dau) OVER (ORDER BY day_number) AS dau,
  sum(wau) OVER (ORDER BY day_number) AS wau,
  sum(mau) OVER (ORDER BY day_number) AS mau
FROM (
  SELECT day_number, sum(dau * people) AS dau, sum(wau * people) AS wau, sum(mau * people) AS mau
  FROM (
    SELECT
      unnest(make_array(day_number, day_number + 1, day_number + least(gap, 7), day_number + gap)) AS day_number,
      unnest(make_array(1, -1, 0, 0)) AS dau,
      unnest(make_array(1, 0, -1, 0)) AS wau,
      unnest(make_array(1, 0, 0, -1)) AS mau,
      people
    FROM (
      SELECT day_number, least(coalesce(next_number - day_number, 30), 30) AS gap, count(*) AS people
      FROM person_days
      GROUP BY 1, 2
    ) AS gaps
    UNION ALL
    SELECT CAST(local_day(at, $tz) AS INT), 0, 0, 0, 0
    FROM (SELECT unnest(periods($from, $to, 'day', $tz)) AS at) AS days
  ) AS changes
  GROUP BY day_number
) AS sums
