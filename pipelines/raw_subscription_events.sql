-- Subscriptions as they stand from a time on, every event as it came.
--
-- Grain: one row per event. Late events too: a raw table has no window to miss.
-- Source of the definition: proto/millstream/v1/events.proto.
INSERT INTO raw_subscription_events SELECT * FROM subscription_events;
