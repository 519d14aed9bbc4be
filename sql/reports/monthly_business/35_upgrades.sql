-- Changes of plan
--
-- Accounts by the plan that they had at the start and the one that they had at the end, where the two differ; `none`: no subscription.
-- An account with two plans counts with the greater of their names.
SELECT
  coalesce(a.tier, 'none') || ' → ' || coalesce(b.tier, 'none') AS change,
  count(*) AS accounts
FROM (
  SELECT account_id, max(tier) AS tier FROM subscription_states
  WHERE (status IS DISTINCT FROM 'cancelled') AND valid_from < $from AND (valid_to IS NULL OR valid_to >= $from)
  GROUP BY account_id
) AS a
FULL JOIN (
  SELECT account_id, max(tier) AS tier FROM subscription_states
  WHERE (status IS DISTINCT FROM 'cancelled') AND valid_from < $to AND (valid_to IS NULL OR valid_to >= $to)
  GROUP BY account_id
) AS b ON b.account_id = a.account_id
WHERE a.tier IS DISTINCT FROM b.tier
GROUP BY 1
ORDER BY accounts DESC, change
