-- Nexmark q11: the bids of each bidder without a pause of ten seconds.
-- Features: session window
-- Result: append
CREATE TABLE q11 WITH ($sink);
INSERT INTO q11
SELECT bidder, bids, w['start'] AS start, w['end'] AS end
FROM (SELECT session(INTERVAL '10 seconds') AS w, bidder, count(*) AS bids FROM bid GROUP BY 1, bidder);
