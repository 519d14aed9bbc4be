-- Nexmark q4: the average of the winning prices of each category.
-- Features: updating join with a time condition, aggregate of an aggregate, retractions
-- Result: updating
CREATE TABLE q4 WITH ($sink);
INSERT INTO q4
SELECT category, avg(final) AS average
FROM (
  SELECT a.id, a.category, max(b.price) AS final
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.datetime BETWEEN a.datetime AND a.expires
  GROUP BY a.id, a.category
)
GROUP BY category;
