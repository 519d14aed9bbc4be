-- Executions of AI agents and calls within them, every event as it came.
--
-- Grain: one row per event. Late events too: a raw table has no window to miss.
-- Source of the definition: proto/millstream/v1/events.proto.
INSERT INTO raw_agent_events SELECT * FROM agent_events;
