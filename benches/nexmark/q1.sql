-- Nexmark q1: every bid with its price in euros.
-- Features: projection
-- Result: append
CREATE TABLE q1 WITH ($sink);
INSERT INTO q1
SELECT auction, bidder, 0.908 * price AS price, datetime, extra FROM bid;
