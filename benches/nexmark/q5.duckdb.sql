-- Nexmark q5 as a batch, for DuckDB.
WITH panes AS (
  SELECT time_bucket(INTERVAL 2 seconds, datetime) AS pane, auction, count(*) AS n FROM bid GROUP BY ALL
), counts AS (
  SELECT pane - to_seconds(back) AS start, auction, sum(n) AS num
  FROM panes, (VALUES (0), (2), (4), (6), (8)) AS t(back) GROUP BY ALL
)
SELECT start, auction, num FROM counts
QUALIFY num = max(num) OVER (PARTITION BY start);
