-- Incidents
--
-- Those that people or monitoring reported, and those that the requests show: minutes in which more than 5 % of at least 10 requests
-- of a route failed, with less than 5 minutes between them. An open one has no end.
-- Grain: one row per incident that opened in the time asked about, newest first. Units: milliseconds.
-- Lateness: the day in progress is recomputed at each recheck, a closed one when late events changed it.
-- Source: sql/views/reported_incidents.sql, sql/rollups/api_bad_minutes.sql.
WITH numbered AS (
  SELECT
    minute, service, route, requests, errors,
    sum(first) OVER (PARTITION BY service, route ORDER BY minute) AS number
  FROM (
    SELECT
      *,
      CASE WHEN lag(minute) OVER (PARTITION BY service, route ORDER BY minute) > minute - INTERVAL '6 minutes' THEN 0 ELSE 1 END
        AS first
    FROM api_bad_minutes
    WHERE day >= CAST($from - INTERVAL '1 day' AS DATE) AND day <= CAST($to + INTERVAL '1 day' AS DATE)
  ) AS marked
),
detected AS (
  SELECT
    coalesce(route, 'unnamed') || ' ' || CAST(min(minute) AS TEXT) AS incident,
    CAST(NULL AS TEXT) AS severity,
    service,
    CAST(sum(errors) AS TEXT) || ' of ' || CAST(sum(requests) AS TEXT) || ' requests to ' || coalesce(route, 'unnamed') || ' failed'
      AS title,
    min(minute) AS opened_at,
    max(minute) + INTERVAL '1 minute' AS resolved_at,
    'detected' AS source
  FROM numbered
  GROUP BY service, route, number
)
SELECT
  incident,
  severity,
  service,
  title,
  opened_at,
  resolved_at,
  (date_part('epoch', resolved_at) - date_part('epoch', opened_at)) * 1000.0 AS duration_ms,
  source
FROM (SELECT *, 'reported' AS source FROM reported_incidents UNION ALL SELECT * FROM detected) AS incidents
WHERE opened_at >= $from AND opened_at < $to
ORDER BY opened_at DESC, incident
