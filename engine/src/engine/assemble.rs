//! A program to what the runtime runs: sources opened, sinks opened, late and rejected rows given a place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;

use super::narrow::{narrow, rescan, used_columns};
use crate::connectors::ingest::{REJECTED, rejected_table};
use crate::connectors::lake_sink::{LakeCommit, LakeSink, with_day};
use crate::connectors::lake_source::LakeSource;
use crate::connectors::memory::Memory;
use crate::connectors::metadata::Origin;
use crate::connectors::postgres::PostgresSource;
use crate::connectors::{Commit, Connector, Source, blackhole::Blackhole, file_sink, stdout::Stdout};
use crate::error::{Error, Result, SqlError};
use crate::lake::{Lake, Owner};
use crate::operators::join::lookup::LookupSource;
use crate::runtime::complete::complete;
use crate::runtime::pipeline::{PipelineSpec, Target};
use crate::runtime::sides::{Sides, late_schema};
use crate::runtime::sources::{Input, SourceSpec};
use crate::sql::catalog::Table;
use crate::sql::plan::Plan;
use crate::sql::program::{Program, rejected_stream};

/// Where tables and subscribers are. Opening blocks on the runtime: call from a thread outside of it.
pub struct Surroundings<'a> {
    /// The lake, if there is one.
    pub lake: Option<&'a Lake>,
    /// For its I/O.
    pub handle: &'a Handle,
    /// Whether tables can be read from the log.
    pub log: bool,
    /// Who watches which memory table.
    pub subscribers: &'a BTreeMap<String, SyncSender<RecordBatch>>,
    /// The number of the next checkpoint.
    pub next_checkpoint: u64,
    /// Whether damaged checkpoints are taken again, whose rows the tables may have.
    pub again: bool,
    /// Who writes the tables.
    pub owner: &'a Owner,
}

/// Sources and pipelines, ready to start.
pub struct Assembled {
    /// Sources; pipelines name them.
    pub sources: Vec<SourceSpec>,
    /// Pipelines.
    pub pipelines: Vec<PipelineSpec>,
}

/// Opens everything that a program names.
pub fn assemble(program: &Program, around: &Surroundings<'_>) -> Result<Assembled> {
    let mut pipelines = Vec::new();
    let tables = tables(program)?;
    for (name, pipeline) in &program.pipelines {
        let late = match late_schema(&pipeline.plan) {
            Some(schema) => around.side(program, &format!("{name}__late"), &schema)?,
            None => None,
        };
        around.connect(program, &pipeline.plan)?;
        let target = around.target(name, &pipeline.sink, &pipeline.plan.schema())?;
        let mut plan = pipeline.plan.clone();
        rescan(&mut plan, &tables)?;
        let rejected = match plan.may_fail() {
            true => around.side(program, &rejected_table(name), &REJECTED)?,
            false => None,
        };
        pipelines.push(PipelineSpec { name: name.clone(), plan, target, sides: Sides { late, rejected } });
    }
    let mut sources = Vec::new();
    for table in tables.values() {
        sources.push(SourceSpec { table: table.clone(), input: around.input(table)?, rejected: None });
    }
    // Rejected rows are a stream of their own, with a pipeline of their own.
    for (at, name) in tables.keys().enumerate() {
        let side = rejected_table(name);
        let Some(target) = around.side(program, &side, &REJECTED)? else { continue };
        let plan = Plan::Scan {
            table: side.clone(),
            columns: (0..REJECTED.fields().len()).collect(),
            schema: REJECTED.clone(),
        };
        pipelines.push(PipelineSpec { name: side.clone(), plan, target, sides: Sides::default() });
        let rejected = sources.len();
        if let Some(source) = sources.get_mut(at) {
            source.rejected = Some(rejected);
        }
        sources.push(SourceSpec { table: rejected_stream(name), input: Input::Rejected, rejected: None });
    }
    Ok(Assembled { sources, pipelines })
}

/// The tables that pipelines read, with the columns that they use. What the log holds is decoded whole.
fn tables(program: &Program) -> Result<BTreeMap<String, Table>> {
    let mut used = BTreeMap::new();
    program.pipelines.values().for_each(|p| used_columns(&p.plan, &mut used));
    let table = |(name, used): (String, BTreeSet<usize>)| {
        let table = program.catalog.tables.get(&name).ok_or_else(|| Error::Bug(format!("no table {name}")))?;
        let whole = matches!(table.connector, Connector::Ingest);
        Ok((name, if whole { table.clone() } else { narrow(table, &used)? }))
    };
    used.into_iter().map(table).collect()
}

impl Surroundings<'_> {
    /// Tells the lookup tables of a plan where their rows come from.
    fn connect(&self, program: &Program, plan: &Plan) -> Result<()> {
        for lookup in plan.lookups() {
            let name = &lookup.table;
            let table = program.catalog.tables.get(name).ok_or_else(|| Error::Bug(format!("no table {name}")))?.clone();
            if matches!(table.connector, Connector::Ingest) {
                return Err(Error::sql(format!(
                    "lookup table '{name}' must be a file, a Delta table or in PostgreSQL"
                )));
            }
            let (lake, handle, schema) = (self.lake.cloned(), self.handle.clone(), table.schema.clone());
            let ttl = table.lookup.as_ref().and_then(|l| l.ttl);
            let fetch = Box::new(move || whole(&table, bounded(&table, lake.as_ref(), &handle)?));
            lookup.connect(LookupSource { schema, fetch, ttl });
        }
        Ok(())
    }

    fn input(&self, table: &Table) -> Result<Input> {
        match &table.connector {
            Connector::Ingest if self.log => Ok(Input::Log),
            Connector::Ingest => Err(Error::Query(SqlError {
                message: format!("table '{}' has connector 'ingest', which needs a server", table.name),
                fix: Some("start it with `millstream serve`, or read a file with connector = 'single_file'".into()),
                ..SqlError::default()
            })),
            Connector::SingleFile(file) => Ok(Input::Bounded {
                source: bounded(table, self.lake, self.handle)?,
                rate_limit: file.rate_limit,
                fail_on_bad_data: file.fail_on_bad_data,
            }),
            Connector::Nexmark(options) => Ok(Input::Bounded {
                source: options.open(table.arriving.clone())?,
                rate_limit: options.rate_limit(),
                fail_on_bad_data: false,
            }),
            _ => {
                let source = bounded(table, self.lake, self.handle)?;
                Ok(Input::Bounded { source, rate_limit: None, fail_on_bad_data: false })
            }
        }
    }

    /// The place for late or rejected rows: a declared table, else the lake, else none (they are counted).
    fn side(&self, program: &Program, name: &str, schema: &SchemaRef) -> Result<Option<Target>> {
        if let Some(table) = program.catalog.tables.get(name) {
            return self.target(name, table, schema).map(Some);
        }
        match self.lake {
            Some(lake) => self.lake_target(lake, name, schema, &[]).map(Some),
            None => Ok(None),
        }
    }

    fn target(&self, pipeline: &str, sink: &Table, schema: &SchemaRef) -> Result<Target> {
        let plain = |sink| Ok(Target { sink, commit: None });
        match &sink.connector {
            Connector::SingleFile(file) => plain(file_sink::open(file, schema.clone())),
            Connector::Memory => plain(Box::new(Memory::new(self.subscribers.get(&sink.name).cloned()))),
            Connector::Stdout(lines) => plain(Box::new(Stdout(lines.clone()))),
            Connector::Blackhole => plain(Box::new(Blackhole)),
            Connector::Lake => {
                self.lake_target(self.lake.ok_or_else(|| no_lake(pipeline))?, pipeline, schema, &sink.partition)
            }
            Connector::Ingest | Connector::Nexmark(_) | Connector::Postgres(_) => {
                Err(Error::sql(format!("attempted to insert into table '{pipeline}', but it is a source")))
            }
        }
    }

    fn lake_target(&self, lake: &Lake, name: &str, schema: &SchemaRef, partition: &[String]) -> Result<Target> {
        let schema = with_day(schema)?;
        let table = self.handle.block_on(lake.partitioned(name, schema.clone(), partition))?;
        self.handle.block_on(table.claim(self.owner))?;
        let commit = LakeCommit::new(table.clone(), self.handle.clone(), format!("millstream/{name}"));
        let committed = if self.again { commit.committed()? } else { None };
        let (handle, first) = (self.handle.clone(), self.next_checkpoint);
        let sink = LakeSink::new(table, handle, schema, name.to_string(), first).after(committed);
        Ok(Target { sink: Box::new(sink), commit: Some(Arc::new(commit)) })
    }
}

/// A source that ends, opened.
fn bounded(table: &Table, lake: Option<&Lake>, handle: &Handle) -> Result<Box<dyn Source>> {
    let arriving = table.arriving.clone();
    match &table.connector {
        Connector::SingleFile(file) => file.open_with(arriving, &table.metadata),
        Connector::Lake => {
            let lake = lake.ok_or_else(|| no_lake(&table.name))?;
            let existing = handle.block_on(lake.existing(&table.name))?;
            let existing =
                existing.ok_or_else(|| Error::Config(format!("there is no Delta table '{}' to read", table.name)))?;
            Ok(Box::new(LakeSource::new(&existing, handle.clone(), arriving)?))
        }
        Connector::Postgres(options) => Ok(Box::new(PostgresSource::new(options.clone(), arriving))),
        other => Err(Error::sql(format!("connector '{}' cannot be read from", other.name()))),
    }
}

/// All rows of a lookup table; a row that cannot be decoded is an error, for its partners would go unnoticed.
fn whole(table: &Table, mut source: Box<dyn Source>) -> Result<RecordBatch> {
    let name = &table.name;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    loop {
        let read = source.read()?;
        let Some(batch) = read.batch else { break };
        let origin = Origin { producer: "", offset: 0, received_at: 0 };
        let (batch, rejected) = complete(table, batch, &origin)?;
        if let Some(row) = read.rejected.first().or(rejected.first()) {
            return Err(Error::event("BAD_DATA", format!("lookup table {name}: {}", row.message)));
        }
        bytes += batch.get_array_memory_size() as u64;
        if let Some(most) = table.lookup.as_ref().and_then(|l| l.bytes_max).filter(|most| bytes > *most) {
            return Err(Error::Config(format!(
                "lookup table '{name}' takes over {most} bytes; raise 'lookup.cache.max_bytes' or declare fewer columns"
            )));
        }
        batches.push(batch);
    }
    Ok(concat_batches(&table.schema, &batches)?)
}

fn no_lake(table: &str) -> Error {
    Error::Query(SqlError {
        message: format!("table '{table}' would be a Delta table, but this run has no place for tables"),
        fix: Some(format!(
            "give a state directory, or declare CREATE TABLE {table} WITH (connector = 'single_file', ...)"
        )),
        ..SqlError::default()
    })
}
