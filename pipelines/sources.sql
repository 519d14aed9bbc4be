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
