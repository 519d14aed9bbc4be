-- Nexmark q0: every bid as it is; the cost of moving rows.
-- Features: scan
-- Result: append
CREATE TABLE q0 WITH ($sink);
INSERT INTO q0
SELECT auction, bidder, price, channel, url, datetime, extra FROM bid;
