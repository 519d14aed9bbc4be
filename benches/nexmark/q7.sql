-- Nexmark q7: the highest bids of every ten seconds.
-- Features: join of two tumbling windows: the bids of each, and their highest price
-- Result: append
CREATE TABLE q7 WITH ($sink);
INSERT INTO q7
SELECT b.auction, b.price, b.bidder, b.datetime, b.extra
FROM (
  SELECT tumble(INTERVAL '10 seconds') AS w, auction, price, bidder, datetime, extra
  FROM bid GROUP BY 1, auction, price, bidder, datetime, extra
) AS b
JOIN (SELECT tumble(INTERVAL '10 seconds') AS w, max(price) AS highest FROM bid GROUP BY 1) AS m
  ON b.w = m.w AND b.price = m.highest;
