-- Spans of OpenTelemetry that are no request of a server and no work of an agent, each as it came.
--
-- Grain: one row per record. Late ones too: a raw table has no window to miss.
-- Source of the definition: pipelines/sources.sql.
INSERT INTO raw_otel_spans SELECT * FROM otel_spans;
