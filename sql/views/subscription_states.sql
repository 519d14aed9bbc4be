-- Subscriptions as they stood, from when to when.
--
-- Grain: one row per event of a subscription; valid from valid_from until before valid_to (NULL: still).
-- mrr_micros: monthly recurring revenue in millionths of the currency's minor unit, so that sums are exact: seats times price,
-- a year / 12, a week * 52 / 12, a day * 365 / 12; 0 unless active or past due. A subscription keeps its currency.
-- Source of the definition: ChartMogul's MRR; metered and one-time parts and taxes are not in it.
SELECT
  subscription_id,
  account_id,
  coalesce(currency, '') AS currency,
  CASE WHEN status = 'trialing' THEN 'trial' ELSE coalesce(tier, 'unknown') END AS tier,
  tier AS plan,
  status,
  coalesce(seats, 0) AS seats,
  country,
  event_id,
  event_time AS valid_from,
  lead(event_time) OVER (PARTITION BY subscription_id ORDER BY event_time, event_id) AS valid_to,
  CASE WHEN status IN ('active', 'past_due') THEN
    coalesce(seats, 1) * coalesce(unit_price_minor, 0) * 1000000 * CASE billing_interval WHEN 'week' THEN 52 WHEN 'day' THEN 365 ELSE 1 END
    / (coalesce(billing_interval_count, 1) * CASE billing_interval WHEN 'month' THEN 1 ELSE 12 END)
  ELSE 0 END AS mrr_micros
FROM raw_subscription_events
WHERE subscription_id IS NOT NULL
