//! `millstream ingest`: a file of rows, over gRPC, each row once.
//!
//! The producer is named after the file's content and its batches are cut the same way each time, so sending a file again
//! (after a crash, or by mistake) adds only what is missing.

use std::path::PathBuf;

use clap::Args;
use millstream::{Error, Result};
use millstream_proto::v1::Rejected;
use tokio::sync::mpsc;

use super::progress::Progress;
use super::sql::api_key;
use crate::ingest::client::{Client, ClientError, Options, Totals};
use crate::rows::{self, Chunk};

/// Batches that are read ahead of the sender.
const READ_AHEAD: usize = 8;

/// Refused rows that are shown.
const SHOWN_ROWS_MAX: usize = 5;

/// Arguments of `millstream ingest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream ingest ide_events events.jsonl.gz --key $KEY
  millstream ingest api_events spans.parquet --url http://10.0.0.5:7171
  millstream ingest agent_events usage.csv

The format is told by the name: .jsonl, .ndjson, .json, .csv or .parquet; .gz too, but for Parquet. Columns are matched by
name. Sending the same file twice adds nothing. In CSV an empty cell is NULL; a table that is declared in SQL gets numbers
where every cell of a column is one, so text made of digits is better sent as JSON lines.")]
pub struct IngestArgs {
    /// The table
    table: String,
    /// The file
    file: PathBuf,
    /// The server's gRPC address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7171")]
    url: String,
    /// The API key [default: the variable MILLSTREAM_API_KEY]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The certificate authority to trust, PEM; needed for https
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The producer's name [default: the file's name and a hash of its content]
    #[arg(long)]
    producer: Option<String>,
}

/// Sends the file; an error if any row was refused.
pub async fn run(args: IngestArgs) -> Result<()> {
    let source = rows::Source::open(&args.file, &args.table)?;
    let producer = match &args.producer {
        Some(name) => name.clone(),
        None => source.producer()?,
    };
    let tls_ca = match &args.tls_ca {
        None => None,
        Some(path) => {
            Some(std::fs::read(path).map_err(|e| Error::Config(format!("cannot read {}: {e}", path.display())))?)
        }
    };
    let options = Options { tls_ca, ..Options::new(&args.url, api_key(args.key.as_deref())?, producer, 1) };
    let (sender, mut refused) = mpsc::unbounded_channel::<(u64, Rejected)>();
    let mut first_row = std::collections::VecDeque::new();
    let (first_sender, first_rows) = std::sync::mpsc::channel::<u64>();
    let mut client = Client::start(options, move |ack| {
        // Receipts come in the order of the batches.
        first_row.extend(first_rows.try_iter());
        let first = first_row.pop_front().unwrap_or(0);
        for row in ack.rejected.iter().take(SHOWN_ROWS_MAX) {
            let _ = sender.send((first + u64::from(row.index) + 1, row.clone()));
        }
    })
    .map_err(client_error)?;
    let progress = Progress::bytes(source.bytes());
    let (chunks, mut read) = mpsc::channel::<Chunk>(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || source.read(|chunk| chunks.blocking_send(chunk).is_ok()));
    let mut rows = 0;
    while let Some(chunk) = read.recv().await {
        let _ = first_sender.send(rows);
        rows += chunk.rows;
        let position = chunk.position;
        if !client.send(chunk.events).await {
            break;
        }
        progress.set(position, format!("{rows} rows"));
    }
    drop(read);
    let totals = client.finish().await.map_err(client_error);
    reader.await.map_err(|e| Error::Bug(format!("reading the file: {e}")))??;
    let totals = totals?;
    let took = progress.elapsed();
    drop(progress);
    crate::tell!("{}", show(&totals, took.as_secs_f64()));
    let mut shown = 0;
    while let Ok((row, rejected)) = refused.try_recv() {
        if shown < SHOWN_ROWS_MAX {
            crate::tell!("  row {row}: {}: {}", rejected.code, rejected.message);
        }
        shown += 1;
    }
    if totals.rejected > 0 {
        let table = &args.table;
        let fix = format!("mend them and send them alone; they are in {table}__rejected with their reasons");
        return Err(Error::event("REJECTED", format!("{} of {rows} rows were refused; {fix}", totals.rejected)));
    }
    Ok(())
}

fn show(totals: &Totals, seconds: f64) -> String {
    let Totals { accepted, duplicates, rejected, .. } = totals;
    format!("{accepted} rows accepted, {duplicates} duplicates, {rejected} refused in {seconds:.1} s")
}

/// An error of the client, by who must act.
fn client_error(error: ClientError) -> Error {
    match error {
        ClientError::Options(message) => Error::Config(message),
        ClientError::Refused { code, message } => {
            Error::Config(format!("the server refused the batch ({code}): {message}"))
        }
        error @ ClientError::Unreachable { .. } => {
            Error::Storage(format!("{error}; check --url and that `millstream serve` runs, then send the file again"))
        }
    }
}
