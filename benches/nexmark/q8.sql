-- Nexmark q8: who came and began to sell within the same ten seconds.
-- Features: join of two tumbling windows
-- Result: append
CREATE TABLE q8 WITH ($sink);
INSERT INTO q8
SELECT p.id, p.name, p.w['start'] AS start
FROM (SELECT tumble(INTERVAL '10 seconds') AS w, id, name FROM person GROUP BY 1, id, name) AS p
JOIN (SELECT tumble(INTERVAL '10 seconds') AS w, seller FROM auction GROUP BY 1, seller) AS a
  ON p.id = a.seller AND p.w = a.w;
