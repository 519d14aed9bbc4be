//! The engine inside a program: rows in, a query watched. Run it: `cargo run --workspace --example embed`.

use std::sync::Arc;

use millstream::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};
use millstream::arrow::util::pretty::print_batches;
use millstream::time::SECOND;
use millstream::{Append, Engine, Options};

const SQL: &str = "
CREATE TABLE visits (page TEXT, at TIMESTAMP NOT NULL, WATERMARK FOR at) WITH (connector = 'ingest');
CREATE TABLE counts WITH (connector = 'memory');
INSERT INTO counts SELECT page, count(*) AS visits FROM visits GROUP BY tumble(INTERVAL '10 seconds'), page;";

/// Counts visits per page and ten seconds.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("millstream-embed-{}", std::process::id()));
    let engine = Engine::open(Options::new(&dir)).await?;
    engine.execute(SQL, "embed.rs").await?;
    let counts = engine.subscribe("counts")?;
    engine.start().await?;
    let page: ArrayRef = Arc::new(StringArray::from(vec!["home", "help", "home"]));
    let at: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![SECOND, 2 * SECOND, 3 * SECOND]));
    let schema = engine.table("visits").ok_or("no table")?.schema;
    let batch = RecordBatch::try_new(schema, vec![page, at])?;
    let rows = Append { table: "visits".into(), producer: "web".into(), sequence: None, batch, rejected: Vec::new() };
    engine.append(rows).await?;
    // Nothing before a minute follows: the window closes.
    engine.promise("visits", "web", 60 * SECOND).await?;
    print_batches(&[tokio::task::spawn_blocking(move || counts.recv()).await??])?;
    engine.close().await?;
    Ok(std::fs::remove_dir_all(dir)?)
}
