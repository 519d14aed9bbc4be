-- Minutes in which a route failed too often.
--
-- Grain: one row per UTC minute, service and route with at least 10 requests of which more than 5 % ended with a status code of
-- 500 and above. sql/metrics/incidents.sql makes incidents of neighbouring ones. Units: requests.
-- Lateness: none is lost; a day runs again when late events changed it. Source of the thresholds: Google's SRE workbook, alerting.
SELECT
  date_trunc('minute', event_time) AS minute,
  service,
  route,
  count(*) AS requests,
  sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors
FROM raw_api_events
WHERE day = $day
GROUP BY 1, service, route
HAVING count(*) >= 10 AND sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) * 20 > count(*)
