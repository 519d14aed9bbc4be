-- Nexmark q5: the auctions with the most bids of the last ten seconds, every two seconds.
-- Features: hopping window, window of a window, join of windows
-- Result: append
CREATE TABLE q5 WITH ($sink);
INSERT INTO q5
SELECT w['start'] AS start, auction, num
FROM (
  SELECT counts.w, counts.auction, counts.num
  FROM (SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS w, auction, count(*) AS num FROM bid GROUP BY 1, auction) AS counts
  JOIN (
    SELECT w, max(num) AS most
    FROM (SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS w, auction, count(*) AS num FROM bid GROUP BY 1, auction)
    GROUP BY w
  ) AS hottest ON counts.w = hottest.w AND counts.num = hottest.most
);
