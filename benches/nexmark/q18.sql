-- Nexmark q18: each bidder's last bid on each auction.
-- Features: de-duplication: top 1 by time
-- Result: updating
CREATE TABLE q18 WITH ($sink);
INSERT INTO q18
SELECT auction, bidder, price, channel, url, datetime, extra
FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY datetime DESC) AS place FROM bid)
WHERE place <= 1;
