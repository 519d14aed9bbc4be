-- Errors by route
--
-- Requests that were answered with a status code of 500 and above, and their share of the route's requests.
SELECT
  coalesce(route, 'unnamed') AS route,
  sum(errors) AS errors,
  sum(requests) AS requests,
  100.0 * sum(errors) / sum(requests) AS error_percent
FROM api_totals
WHERE cut IN ('day route', 'route')
GROUP BY 1
HAVING sum(errors) > 0
ORDER BY errors DESC, route
