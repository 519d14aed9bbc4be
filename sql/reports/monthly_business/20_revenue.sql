-- Revenue per day
--
-- What was paid for agents less what was refunded, per UTC day of the payment. US dollars.
SELECT day, sum(price_usd) AS net_usd, sum(CASE WHEN name = 'purchased' THEN 1 ELSE 0 END) AS purchases,
  sum(CASE WHEN name = 'refunded' THEN 1 ELSE 0 END) AS refunds
FROM raw_marketplace_events
WHERE day >= CAST($from AS DATE) AND day <= CAST($to AS DATE) AND event_time >= $from AND event_time < $to AND name IN ('purchased', 'refunded')
GROUP BY day
ORDER BY day
