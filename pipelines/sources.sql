-- The event tables that producers write to, over gRPC or HTTP.
--
-- Columns: those of the message in proto/millstream/v1/events.proto, whose comments describe them.
-- Lateness: an event may arrive up to one minute after a younger one of the same producer; a later one misses the windows
-- that have closed and goes to <pipeline>__late. Raw tables take every event, however late.
-- Time: event_time, UTC.

CREATE TABLE ide_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'IdeEvent');

CREATE TABLE workflow_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'WorkflowEvent');

CREATE TABLE api_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'ApiEvent');

CREATE TABLE agent_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'AgentEvent');

CREATE TABLE marketplace_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'MarketplaceEvent');

-- What OpenTelemetry exporters send that is no event of the kinds above: log records, spans, points of metrics.
CREATE TABLE otel_logs (
  event_id TEXT, event_time TIMESTAMP NOT NULL, name TEXT, severity TEXT, body TEXT, service TEXT, user_id TEXT,
  session_id TEXT, trace_id TEXT, span_id TEXT, properties TEXT,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest');

CREATE TABLE otel_spans (
  event_id TEXT, event_time TIMESTAMP NOT NULL, name TEXT, duration_ms DOUBLE, status TEXT, error TEXT, service TEXT,
  user_id TEXT, session_id TEXT, trace_id TEXT, span_id TEXT, parent_span_id TEXT, properties TEXT,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest');

CREATE TABLE otel_metrics (
  event_id TEXT, event_time TIMESTAMP NOT NULL, name TEXT, unit TEXT, kind TEXT, temporality TEXT, value DOUBLE,
  values_counted BIGINT, service TEXT, user_id TEXT, session_id TEXT, properties TEXT,
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest');

CREATE TABLE subscription_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'SubscriptionEvent');

CREATE TABLE payment_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'PaymentEvent');

CREATE TABLE price_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'PriceEvent');

CREATE TABLE cost_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'CostEvent');

CREATE TABLE storage_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'StorageEvent');

CREATE TABLE incident_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'IncidentEvent');

CREATE TABLE identity_events (
  WATERMARK FOR event_time AS event_time - INTERVAL '1 minute'
) WITH (connector = 'ingest', message = 'IdentityEvent');
