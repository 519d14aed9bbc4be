-- Nexmark q11 as a batch, for DuckDB.
SELECT bidder, count(*) AS bids, min(datetime) AS start, max(datetime) + INTERVAL 10 seconds AS "end"
FROM (
  SELECT bidder, datetime, sum(begins) OVER (PARTITION BY bidder ORDER BY datetime) AS number
  FROM (
    SELECT bidder, datetime,
           CASE WHEN datetime - lag(datetime) OVER (PARTITION BY bidder ORDER BY datetime) < INTERVAL 10 seconds
                THEN 0 ELSE 1 END AS begins
    FROM bid
  )
)
GROUP BY bidder, number;
