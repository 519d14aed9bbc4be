-- Nexmark q20: the bids on auctions of category 10, with the auction.
-- Features: updating inner join of two streams
-- Result: append
CREATE TABLE q20 WITH ($sink);
INSERT INTO q20
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.datetime, b.extra,
       a.itemname, a.description, a.initialbid, a.reserve, a.datetime AS auction_datetime, a.expires, a.seller,
       a.category, a.extra AS auction_extra
FROM bid AS b JOIN auction AS a ON b.auction = a.id
WHERE a.category = 10;
