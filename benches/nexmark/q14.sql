-- Nexmark q14: the expensive bids, with the time of day and a letter of their text counted.
-- Features: filter, CASE, text functions
-- Result: append
CREATE TABLE q14 WITH ($sink);
INSERT INTO q14
SELECT auction, bidder, 0.908 * price AS price,
       CASE WHEN extract(hour FROM datetime) >= 8 AND extract(hour FROM datetime) <= 18 THEN 'dayTime'
            WHEN extract(hour FROM datetime) <= 6 OR extract(hour FROM datetime) >= 20 THEN 'nightTime'
            ELSE 'otherTime' END AS bid_time_type,
       datetime, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
