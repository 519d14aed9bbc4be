-- Nexmark q8 as a batch, for DuckDB.
SELECT p.id, p.name, p.start
FROM (SELECT DISTINCT time_bucket(INTERVAL 10 seconds, datetime) AS start, id, name FROM person) AS p
JOIN (SELECT DISTINCT time_bucket(INTERVAL 10 seconds, datetime) AS start, seller FROM auction) AS a
  ON p.id = a.seller AND p.start = a.start;
