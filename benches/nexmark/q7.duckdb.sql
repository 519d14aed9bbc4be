-- Nexmark q7 as a batch, for DuckDB.
SELECT auction, price, bidder, datetime, extra FROM bid
QUALIFY price = max(price) OVER (PARTITION BY time_bucket(INTERVAL 10 seconds, datetime));
