//! The two sides of a comparison in this process: a pipeline over rows in memory, and a DataFusion batch over the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream::checkpoint::Checkpoints;
use millstream::connectors::blackhole::Blackhole;
use millstream::connectors::{Read, Source};
use millstream::fs::DiskFs;
use millstream::runtime::pipeline::{PipelineSpec, Target};
use millstream::runtime::sides::Sides;
use millstream::runtime::sources::{Input, SourceSpec};
use millstream::runtime::{Runtime, Setup};
use millstream::sql::plan::Plan;
use millstream::sql::program::Program;
use millstream::time::SystemClock;

/// A table's name, columns and rows.
pub type Table = (&'static str, SchemaRef, Vec<RecordBatch>);

struct Memory(std::vec::IntoIter<RecordBatch>);

impl Source for Memory {
    fn read(&mut self) -> millstream::Result<Read> {
        Ok(Read { batch: self.0.next(), ..Read::default() })
    }
}

/// Runs a plan over the rows of its sources; rows out.
pub fn stream(program: &Program, plan: &Plan, tables: &[Table], workers: usize) -> millstream::Result<u64> {
    let rows = |name: &str| tables.iter().find(|t| t.0 == name).map_or(Vec::new(), |t| t.2.clone());
    let runtime = start(program, plan, |name| Box::new(Memory(rows(name).into_iter())), workers, None)?;
    runtime.join()?;
    Ok(runtime.sum(|c| &c.rows_out))
}

/// Starts a plan over sources that end; with a folder, it takes a checkpoint there every second.
pub fn start(
    program: &Program,
    plan: &Plan,
    source: impl Fn(&str) -> Box<dyn Source>,
    workers: usize,
    checkpoints: Option<&Path>,
) -> millstream::Result<Runtime> {
    let spec = |name: &String| SourceSpec {
        table: program.catalog.tables[name].clone(),
        input: Input::Bounded { source: source(name), rate_limit: None, fail_on_bad_data: false },
        rejected: None,
    };
    let pipeline = PipelineSpec {
        name: "bench".into(),
        plan: plan.clone(),
        target: Target { sink: Box::new(Blackhole), commit: None },
        sides: Sides::default(),
    };
    let keep = |dir: &Path| Checkpoints::open(Arc::new(DiskFs), dir, Arc::new(SystemClock));
    Runtime::start(Setup {
        interval: checkpoints.map(|_| Duration::from_secs(1)),
        checkpoints: checkpoints.map(keep).transpose()?,
        ..Setup::new(plan.sources().iter().map(spec).collect(), vec![pipeline], workers)
    })
}

/// Answers a query with DataFusion; rows out.
pub fn batch(sql: &str, tables: &[Table], partitions: usize) -> Result<u64, String> {
    let wrong = |e: &dyn std::fmt::Display| e.to_string().lines().next().unwrap_or_default().to_string();
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(partitions).build().map_err(|e| wrong(&e))?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    for (name, schema, batches) in tables {
        let parts = batches.chunks(batches.len().div_ceil(partitions).max(1)).map(<[RecordBatch]>::to_vec).collect();
        let table = MemTable::try_new(schema.clone(), parts).map_err(|e| wrong(&e))?;
        context.register_table(*name, Arc::new(table)).map_err(|e| wrong(&e))?;
    }
    tokio.block_on(async {
        let rows = context.sql(sql).await.map_err(|e| wrong(&e))?.collect().await.map_err(|e| wrong(&e))?;
        Ok(rows.iter().map(|b| b.num_rows() as u64).sum())
    })
}
