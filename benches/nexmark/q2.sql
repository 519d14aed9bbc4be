-- Nexmark q2: the bids on some auctions.
-- Features: filter
-- Result: append
CREATE TABLE q2 WITH ($sink);
INSERT INTO q2
SELECT auction, price FROM bid WHERE auction % 123 = 0;
