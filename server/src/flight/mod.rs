//! SQL over Arrow Flight SQL: ADBC, JDBC and Arrow's own clients get columns instead of rows, on the gRPC port.
//!
//! ```text
//! GetFlightInfo(query) --plan--> schema and ticket      DoGet(ticket) --run--> record batches as they are computed
//! ```
//!
//! In: one read-only query at a time, through the same guard as `POST /api/v1/sql`, with its limits of time and memory. An
//! answer streams, a few batches ahead of its reader, so it has no limit on rows. The API key comes as bearer token or as
//! the password of basic authentication.
//!
//! The server keeps nothing between calls: tickets and prepared statements carry their text and parameters. Never: writes,
//! transactions, Substrait.

mod key;
mod listing;
mod placeholder;
mod prepared;
mod service;

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use millstream::{Engine, QueryLimits};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use crate::keys::Keys;

/// Adds the service to those of the gRPC port.
pub fn add_to(routes: Routes, engine: &Engine, keys: Arc<Keys>, limits: QueryLimits) -> Routes {
    let service = service::FlightSql::new(engine, limits);
    let server = FlightServiceServer::new(service);
    // Before anything is read or planned.
    routes.add_service(InterceptedService::new(server, move |request| key::authenticate(&keys, request)))
}
