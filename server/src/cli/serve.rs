//! `millstream serve`.

use clap::Args;
use millstream::Result;

use super::{Place, clock, interrupted};
use crate::serve::Server;

/// Arguments of `millstream serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream serve
  millstream serve --config millstream.toml --data-dir /var/lib/millstream

Section [postgres] of the configuration, with listen = \"127.0.0.1:7432\", opens the tables to psql, Grafana and drivers of
PostgreSQL; Arrow Flight SQL and OpenTelemetry over gRPC are on the gRPC port. The password is an API key.

SIGTERM and SIGINT stop it: it takes no more requests, answers those it has, and takes a last checkpoint.
MILLSTREAM_LOG sets what is logged, such as debug or millstream=debug.")]
pub struct ServeArgs {
    #[command(flatten)]
    place: Place,
}

/// Serves until a signal comes or a listener fails.
pub async fn run(args: ServeArgs) -> Result<()> {
    let config = args.place.load()?;
    let data_dir = config.data_dir.display().to_string();
    let scheme = |tls: bool| if tls { "https" } else { "http" };
    let (http, grpc) = (scheme(config.http.tls_cert.is_some()), scheme(config.ingest.tls_cert.is_some()));
    let mut server = Server::start(config, clock()).await?;
    crate::tell!("HTTP  {http}://{}\ngRPC  {grpc}://{}\ndata  {data_dir}", server.http_address, server.grpc_address);
    if let Some(address) = server.postgres_address {
        crate::tell!("SQL   postgresql://me@{address}/millstream (the password is an API key)");
    }
    if server.keys.list()?.is_empty() {
        crate::tell!("There is no API key yet: `millstream keys create --name me --role admin` makes one.");
    }
    let failure = tokio::select! {
        signal = interrupted() => signal.err(),
        error = server.failed() => Some(error),
    };
    crate::tell!("stopping");
    server.stop().await?;
    match failure {
        Some(error) => Err(error),
        None => {
            crate::tell!("stopped; everything is in the tables or the log");
            Ok(())
        }
    }
}
