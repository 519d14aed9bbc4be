-- Nexmark q10: every bid with the day and the minute that it is filed under.
-- Features: projection, formatted times
-- Result: append
CREATE TABLE q10 WITH ($sink);
INSERT INTO q10
SELECT auction, bidder, price, datetime, extra, to_char(datetime, '%Y-%m-%d') AS dt, to_char(datetime, '%H:%M') AS hm
FROM bid;
