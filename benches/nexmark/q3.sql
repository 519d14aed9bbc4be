-- Nexmark q3: who sells in category 10 from Oregon, Idaho or California.
-- Features: updating inner join of two streams, both filtered
-- Result: append
CREATE TABLE q3 WITH ($sink);
INSERT INTO q3
SELECT p.name, p.city, p.state, a.id
FROM auction AS a JOIN person AS p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca');
