-- Errors per hour
--
-- Requests that were answered with a status code of 500 and above, per hour that had a request.
SELECT date_trunc('hour', event_time) AS hour, sum(CASE WHEN status_code >= 500 THEN 1 ELSE 0 END) AS errors, count(*) AS requests
FROM raw_api_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to
GROUP BY 1
ORDER BY 1
