-- Nexmark q9: the winning bid of each auction.
-- Features: updating join, top 1
-- Result: updating
CREATE TABLE q9 WITH ($sink);
INSERT INTO q9
SELECT id, itemname, description, initialbid, reserve, datetime, expires, seller, category, extra,
       auction, bidder, price, bid_datetime, bid_extra
FROM (
  SELECT a.id, a.itemname, a.description, a.initialbid, a.reserve, a.datetime, a.expires, a.seller, a.category, a.extra,
         b.auction, b.bidder, b.price, b.datetime AS bid_datetime, b.extra AS bid_extra,
         row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.datetime) AS place
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.datetime BETWEEN a.datetime AND a.expires
)
WHERE place <= 1;
