-- Nexmark q6: the average winning price of each seller's last eleven auctions, by the time of the winning bid.
-- Features: join, top 1, OVER with ROWS on rows that change
-- Result: updating
CREATE TABLE q6 WITH ($sink);
INSERT INTO q6
SELECT seller, id, avg(final) OVER (
         PARTITION BY seller ORDER BY datetime ROWS BETWEEN 10 PRECEDING AND CURRENT ROW
       ) AS average
FROM (
  SELECT id, seller, final, datetime
  FROM (
    SELECT a.id, a.seller, b.price AS final, b.datetime,
           row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.datetime) AS place
    FROM auction AS a JOIN bid AS b ON a.id = b.auction
    WHERE b.datetime BETWEEN a.datetime AND a.expires
  )
  WHERE place <= 1
);
