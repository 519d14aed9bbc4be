-- Nexmark q19: the ten highest bids on each auction; of equal ones the first to come.
-- Features: top 10
-- Result: updating
CREATE TABLE q19 WITH ($sink);
INSERT INTO q19
SELECT auction, bidder, price, channel, url, datetime, extra, place
FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid)
WHERE place <= 10;
