-- Accounts by plan
--
-- Accounts with a subscription in force at the end of the time; those on trial are `trial`. An account with two plans counts in both.
SELECT
  tier AS plan,
  count(DISTINCT account_id) AS accounts,
  100.0 * count(DISTINCT account_id) / sum(count(DISTINCT account_id)) OVER () AS share_percent,
  sum(seats) AS seats
FROM subscription_states
WHERE (status IS DISTINCT FROM 'cancelled') AND valid_from < $to AND (valid_to IS NULL OR valid_to >= $to)
GROUP BY tier
ORDER BY accounts DESC, plan
