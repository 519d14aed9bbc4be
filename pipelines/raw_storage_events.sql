-- How full stores are, every sample as it came.
--
-- Grain: one row per event. Late events too: a raw table has no window to miss.
-- Source of the definition: proto/millstream/v1/events.proto.
INSERT INTO raw_storage_events SELECT * FROM storage_events;
