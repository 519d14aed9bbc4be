-- Nexmark q12: the bids of each bidder in every ten seconds; on event time, so that the answer is the same twice.
-- Features: tumbling window
-- Result: append
CREATE TABLE q12 WITH ($sink);
INSERT INTO q12
SELECT bidder, bids, w['start'] AS start, w['end'] AS end
FROM (SELECT tumble(INTERVAL '10 seconds') AS w, bidder, count(*) AS bids FROM bid GROUP BY 1, bidder);
