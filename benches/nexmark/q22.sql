-- Nexmark q22: the folders of each bid's URL.
-- Features: text split
-- Result: append
CREATE TABLE q22 WITH ($sink);
INSERT INTO q22
SELECT auction, bidder, price, channel,
       split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3
FROM bid;
