-- Nexmark q12 as a batch, for DuckDB.
SELECT bidder, count(*) AS bids, time_bucket(INTERVAL 10 seconds, datetime) AS start, start + INTERVAL 10 seconds AS "end"
FROM bid GROUP BY bidder, start;
