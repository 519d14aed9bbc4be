-- Points of OpenTelemetry metrics, each as it came.
--
-- Grain: one row per record. Late ones too: a raw table has no window to miss.
-- Source of the definition: pipelines/sources.sql.
INSERT INTO raw_otel_metrics SELECT * FROM otel_metrics;
