//! OTLP over gRPC: the three collector services, on the port of the ingest service.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use millstream::Engine;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{BoxFuture, Service as TowerService, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::messages::{ExportLogs, ExportMetrics, ExportResponse, ExportTraces};
use super::{Export, take};
use crate::ingest::{Service, authenticate, key_of};
use crate::keys::Keys;

/// Adds the services to those of the gRPC port. A message may have `message_bytes_max`, unpacked.
pub fn add_to(routes: Routes, ingest: Arc<Service<Engine>>, keys: &Arc<Keys>, message_bytes_max: usize) -> Routes {
    let routes = add::<ExportLogs>(routes, &ingest, keys, message_bytes_max);
    let routes = add::<ExportTraces>(routes, &ingest, keys, message_bytes_max);
    add::<ExportMetrics>(routes, &ingest, keys, message_bytes_max)
}

fn add<M: Export>(routes: Routes, ingest: &Arc<Service<Engine>>, keys: &Arc<Keys>, message_bytes_max: usize) -> Routes {
    let collector = Collector::<M> { ingest: ingest.clone(), message_bytes_max, of: PhantomData };
    let keys = keys.clone();
    routes.add_service(InterceptedService::new(collector, move |request| authenticate(&keys, request)))
}

/// The service that takes messages `M`: one method, `Export`.
struct Collector<M> {
    ingest: Arc<Service<Engine>>,
    message_bytes_max: usize,
    of: PhantomData<fn() -> M>,
}

impl<M> Clone for Collector<M> {
    fn clone(&self) -> Self {
        Self { ingest: self.ingest.clone(), message_bytes_max: self.message_bytes_max, of: PhantomData }
    }
}

impl<M: Export> NamedService for Collector<M> {
    const NAME: &'static str = M::SERVICE;
}

impl<M: Export> TowerService<http::Request<Body>> for Collector<M> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move {
            if request.uri().path().rsplit('/').next() != Some("Export") {
                let message = format!("{} has no method but Export", M::SERVICE);
                return Ok(Status::unimplemented(message).into_http());
            }
            let codec = ProstCodec::<ExportResponse, M>::default();
            let mut grpc = Grpc::new(codec)
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(collector.message_bytes_max);
            Ok(grpc.unary(collector, request).await)
        })
    }
}

impl<M: Export> UnaryService<M> for Collector<M> {
    type Response = ExportResponse;
    type Future = BoxFuture<Response<ExportResponse>, Status>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        let ingest = self.ingest.clone();
        Box::pin(async move {
            let key = key_of(&request)?;
            take(&ingest, &key, request.into_inner()).await.map(Response::new)
        })
    }
}
