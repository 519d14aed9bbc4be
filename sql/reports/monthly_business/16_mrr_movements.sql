-- What moved recurring revenue
--
-- Start + new + expansion + reactivation - contraction - churn = end. New: customers who never paid before; reactivation: who did, and
-- paid nothing; churn: who pay nothing any more; expansion and contraction: who pay more or less. Changes within an hour are one.
SELECT
  e.currency,
  CAST(e.start_micros AS DOUBLE) / 1000000.0 AS start_minor,
  CAST(coalesce(m.new_micros, 0) AS DOUBLE) / 1000000.0 AS new_minor,
  CAST(coalesce(m.expansion_micros, 0) AS DOUBLE) / 1000000.0 AS expansion_minor,
  CAST(coalesce(m.reactivation_micros, 0) AS DOUBLE) / 1000000.0 AS reactivation_minor,
  CAST(coalesce(m.contraction_micros, 0) AS DOUBLE) / 1000000.0 AS contraction_minor,
  CAST(coalesce(m.churn_micros, 0) AS DOUBLE) / 1000000.0 AS churn_minor,
  CAST(e.end_micros AS DOUBLE) / 1000000.0 AS end_minor
FROM (
  SELECT currency, sum(start_micros) AS start_micros, sum(end_micros) AS end_micros FROM customers_between GROUP BY currency
) AS e
LEFT JOIN (
  SELECT
    currency,
    sum(CASE WHEN kind = 'new' THEN change_micros ELSE 0 END) AS new_micros,
    sum(CASE WHEN kind = 'expansion' THEN change_micros ELSE 0 END) AS expansion_micros,
    sum(CASE WHEN kind = 'reactivation' THEN change_micros ELSE 0 END) AS reactivation_micros,
    sum(CASE WHEN kind = 'contraction' THEN -change_micros ELSE 0 END) AS contraction_micros,
    sum(CASE WHEN kind = 'churn' THEN -change_micros ELSE 0 END) AS churn_micros
  FROM mrr_changes
  WHERE at >= $from AND at < $to
  GROUP BY currency
) AS m ON m.currency = e.currency
ORDER BY end_minor DESC, e.currency
