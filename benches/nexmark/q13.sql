-- Nexmark q13: every bid with a value from a side input.
-- Features: lookup join. $side: the folder with side_input.csv, whose columns are key and value
-- Result: append
CREATE TEMPORARY TABLE side_input (key BIGINT PRIMARY KEY, value TEXT)
WITH (connector = 'single_file', type = 'lookup', format = 'csv', path = '$side/side_input.csv');
CREATE TABLE q13 WITH ($sink);
INSERT INTO q13
SELECT b.auction, b.bidder, b.price, b.datetime, s.value
FROM bid AS b JOIN side_input AS s ON b.auction % 10000 = s.key;
