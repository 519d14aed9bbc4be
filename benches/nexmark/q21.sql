-- Nexmark q21: the number of each bid's channel, where it has one.
-- Features: CASE, regular expression
-- Result: append
CREATE TABLE q21 WITH ($sink);
INSERT INTO q21
SELECT auction, bidder, price, channel,
       CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
            ELSE regexp_match(url, '(&|^)channel_id=([^&]*)')[2] END AS channel_id
FROM bid
WHERE lower(channel) IN ('apple', 'google', 'facebook', 'baidu') OR regexp_like(url, '(&|^)channel_id=([^&]*)');
