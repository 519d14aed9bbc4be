//! The tables that SQL has declared.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast;

use super::column_type::{arrow_type, sql_type, unsupported_type};
use super::functions::Functions;
use super::parse::{Column, CreateTable, Place, Source, fold, place_of_name};
use super::planner::Planner;
use super::{memory_table, partition};
use crate::connectors::Connector;
use crate::connectors::metadata::Metadata;
use crate::connectors::options::{OptionValue, Options};
use crate::error::{Error, Result, SqlError};
use crate::operators::changelog::envelope;
use crate::time::{DAY, SECOND};

/// How long a partition may be silent before it no longer holds the watermark back, unless `idle_timeout` says otherwise.
const IDLE_AFTER: i64 = 5 * 60 * SECOND;

/// How far ahead of its arrival an event may be and still move the watermark, unless `future_skew` says otherwise.
const FUTURE_SKEW: i64 = 3600 * SECOND;

/// A declared table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Where its rows come from or go.
    pub connector: Connector,
    /// All columns, in order; empty for a sink whose columns come from its first `INSERT`.
    pub schema: SchemaRef,
    /// The columns that arrive, without the generated ones.
    pub arriving: SchemaRef,
    /// The columns that the connector adds to each row (`METADATA FROM`).
    pub metadata: Vec<(Field, Metadata)>,
    /// One expression per column of `schema` over [`Table::inputs`]; `None` if each of them just arrives.
    pub columns: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// The column of the event time; without one the time of arrival is used.
    pub event_time: Option<usize>,
    /// The watermark after each row, as a timestamp over `schema`, as if the row were the only one.
    pub watermark: Option<Arc<dyn PhysicalExpr>>,
    /// A silent partition stops holding the watermark back after this; zero or less: never. Nanoseconds.
    pub idle_after: i64,
    /// An event further ahead of its arrival than this does not move the watermark. Nanoseconds.
    pub future_skew: i64,
    /// Whether rows come and go as changes: `before`, `after`, `op` (`format = 'debezium_json'`).
    pub changelog: bool,
    /// How it is kept in memory, to be joined with (`CREATE TEMPORARY TABLE`).
    pub lookup: Option<LookupOptions>,
    /// What `type = '...'` says it is for.
    pub role: Role,
    /// The columns that are PRIMARY KEY.
    pub primary_key: Vec<usize>,
    /// The columns that a table of the lake is partitioned by after the day.
    pub partition: Vec<String>,
}

/// How a lookup table is kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupOptions {
    /// Its rows are read again after this, nanoseconds; `None`: never.
    pub ttl: Option<i64>,
    /// Its rows may take so many bytes; `None`: as many as there are.
    pub bytes_max: Option<u64>,
}

/// What a table may be used for, as far as its author says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Whatever its connector can.
    Either,
    /// `type = 'source'`.
    Source,
    /// `type = 'sink'`.
    Sink,
}

impl Table {
    /// The columns that arrive and those of the metadata.
    pub fn inputs(&self) -> SchemaRef {
        inputs(&self.arriving, &self.metadata)
    }

    /// Whether a query can read from it.
    pub fn can_read(&self) -> bool {
        self.connector.can_read() && self.role != Role::Sink
    }

    /// Whether `INSERT INTO` can write to it.
    pub fn can_write(&self) -> bool {
        self.connector.can_write() && self.role != Role::Source
    }
}

/// Columns that arrive, then those of metadata.
pub fn inputs(arriving: &SchemaRef, metadata: &[(Field, Metadata)]) -> SchemaRef {
    if metadata.is_empty() {
        return arriving.clone();
    }
    let metadata = metadata.iter().map(|(field, _)| Arc::new(field.clone()));
    Arc::new(Schema::new(arriving.fields().iter().cloned().chain(metadata).collect::<Vec<_>>()))
}

/// A duration of event time in nanoseconds, a day unless set; zero: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdatingTtl(pub i64);

impl Default for UpdatingTtl {
    fn default() -> Self {
        Self(DAY)
    }
}

/// Tables and views by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Tables.
    pub tables: BTreeMap<String, Table>,
    /// Views, planned.
    pub views: BTreeMap<String, LogicalPlan>,
    /// Memory tables, by name: their columns. A filled one is also a view.
    pub memory: BTreeMap<String, SchemaRef>,
    /// Typed events that an embedder has registered: `message = 'Name'`.
    pub messages: BTreeMap<String, SchemaRef>,
    /// How long a key without news is kept where no window bounds the state (`SET updating_ttl`). Nanoseconds of event time.
    pub updating_ttl: UpdatingTtl,
}

impl Catalog {
    /// `SET name = value`.
    pub fn set(&mut self, name: &str, value: OptionValue) -> Result<()> {
        if name != "updating_ttl" {
            let ends = |words: &[&str]| words.iter().any(|w| name.ends_with(w));
            let fix = match name {
                _ if ends(&["ttl"]) => "write SET updating_ttl = INTERVAL '1 day'",
                _ if ends(&["parallelism", "parallelism.default"]) => "run it with -p N",
                _ if ends(&["checkpointing.interval", "barrier_interval_ms", "checkpoint_frequency"]) => {
                    "run it with --checkpoint-interval 10s"
                }
                _ if ends(&["idle-timeout"]) => "write 'idle_timeout' = INTERVAL '5 minutes' in the WITH of the table",
                _ => "leave it out",
            };
            return Err(Error::Query(SqlError {
                message: format!("invalid option '{name}'; supported options are 'updating_ttl'"),
                fix: Some(fix.into()),
                ..SqlError::default()
            }));
        }
        self.updating_ttl = match value {
            OptionValue::Duration(ttl) if ttl >= 0 => UpdatingTtl(ttl),
            OptionValue::Number(n) if n == "0" => UpdatingTtl(0),
            _ => {
                return Err(Error::Query(SqlError {
                    message: "updating_ttl must be an interval of zero or more".into(),
                    fix: Some("write SET updating_ttl = INTERVAL '1 day'; zero keeps everything for ever".into()),
                    ..SqlError::default()
                }));
            }
        };
        Ok(())
    }

    /// Whether a table or view has this name.
    pub fn has(&self, name: &str) -> bool {
        self.tables.contains_key(name) || self.views.contains_key(name) || self.memory.contains_key(name)
    }

    /// Declares a table.
    pub fn create(
        &mut self,
        source: Source<'_>,
        functions: &Functions,
        place: Place,
        table: CreateTable,
    ) -> Result<()> {
        if self.has(&table.name) {
            let message = format!("table '{}' is declared twice", table.name);
            return Err(source.error(Some(place), message, Some("drop one of the two or rename it".into())));
        }
        let name = table.name.clone();
        if memory_table::is_one(&table) {
            memory_table::check(source, place, &table)?;
            self.memory.insert(name, columns(source, &table.columns)?.0);
            return Ok(());
        }
        let table = self.build(source, functions, place, table).map_err(|e| source.locate(e, Some(place)))?;
        self.tables.insert(name, table);
        Ok(())
    }

    fn build(&self, source: Source<'_>, functions: &Functions, place: Place, written: CreateTable) -> Result<Table> {
        let CreateTable { name, columns: written_columns, watermark, mut options, partitioned_by, .. } = written;
        let event_time_field = options.text("event_time_field")?;
        let watermark_field = options.text("watermark_field")?;
        let idle_after = match options.positive("idle_micros")? {
            Some(micros) => (micros * 1_000.0) as i64,
            None => options.duration("idle_timeout")?.unwrap_or(IDLE_AFTER),
        };
        let future_skew = options.duration("future_skew")?.unwrap_or(FUTURE_SKEW);
        let message = options.text("message")?;
        let changelog = options.replace("format", "debezium_json", "json");
        let lookup = lookup(&mut options)?;
        let role = role(&mut options)?;
        let connector = Connector::from_options(&name, &mut options)?;
        let in_lake = matches!(connector, Connector::Lake);
        let fields = if in_lake { options.list("partitioning.fields")? } else { None };
        options.finish(connector.name())?;
        let partition = partition::columns(source, place, &connector, &partitioned_by, fields)?;
        if changelog {
            let time = event_time_field.is_some() || watermark_field.is_some() || watermark.is_some();
            refuse_in_changes(source, place, lookup.is_some(), time, &written_columns)?;
        }

        let (schema, arriving, generated) = match message {
            Some(message) => {
                let schema = self.message_columns(&message, &written_columns)?;
                (schema.clone(), schema, false)
            }
            None => connector_columns(source, &connector, &written_columns)?,
        };
        let primary_key =
            (0..written_columns.len()).filter(|i| written_columns.get(*i).is_some_and(|c| c.primary_key)).collect();
        let planner = Planner::new(source, self, functions);
        let metadata = metadata(source, &connector, &written_columns, &schema)?;
        let given = inputs(&arriving, &metadata);
        let expressions = if generated { Some(planner.generated(&written_columns, &given, &schema)?) } else { None };
        let mut table = Table {
            name,
            connector,
            schema: schema.clone(),
            arriving,
            metadata,
            columns: expressions,
            event_time: None,
            watermark: None,
            idle_after,
            future_skew,
            changelog,
            lookup,
            role,
            primary_key,
            partition,
        };
        if changelog && !table.schema.fields().is_empty() {
            table.arriving = envelope(&table.schema);
        }
        if !table.arriving.fields().is_empty() {
            table.connector.check_columns(&table.name, &table.arriving)?;
        }
        let usual = table.connector.event_time().filter(|c| schema.column_with_name(c).is_some()).map(str::to_string);
        if let Some(column) = watermark_field {
            // Its older form: the column holds the watermark.
            event_time(source, &schema, &column, Some(place))?;
            let column = ast::Expr::Identifier(ast::Ident::with_quote('"', column));
            table.watermark = Some(planner.watermark(&schema, column, Some(place))?);
        }
        let otherwise = event_time_field.or(usual).map(|f| (f, Some(place)));
        set_time(&planner, source, &mut table, watermark, otherwise)?;
        Ok(table)
    }

    fn message_columns(&self, message: &str, written: &[Column]) -> Result<SchemaRef> {
        if !written.is_empty() {
            return Err(Error::sql(format!("columns of message '{message}' come from its definition; list none here")));
        }
        self.messages.get(message).cloned().ok_or_else(|| {
            let known = self.messages.keys().cloned().collect::<Vec<_>>().join(", ");
            Error::sql(format!(
                "unknown message '{message}'; known: {}",
                if known.is_empty() { "none" } else { &known }
            ))
        })
    }
}

/// Refuses what a table of changes cannot have.
fn refuse_in_changes(source: Source<'_>, place: Place, lookup: bool, time: bool, columns: &[Column]) -> Result<()> {
    if let Some(c) = columns.iter().find(|c| !c.arrives()) {
        let message = format!("can't use generated columns with format = 'debezium_json' (column '{}')", c.name.value);
        let fix = "compute it in a view over the table".to_string();
        return Err(source.error(place_of_name(&c.name), message, Some(fix)));
    }
    if time {
        let message = "can't use an event time column with format = 'debezium_json'";
        let fix = "leave WATERMARK FOR and event_time_field out: a change has the time of its arrival";
        return Err(source.error(Some(place), message, Some(fix.into())));
    }
    if lookup {
        let fix = "join with the table of changes itself, as with any stream";
        return Err(source.error(Some(place), "a lookup table cannot have format = 'debezium_json'", Some(fix.into())));
    }
    Ok(())
}

/// What `type = 'lookup'` has with it.
fn lookup(options: &mut Options) -> Result<Option<LookupOptions>> {
    if !options.replace("type", "lookup", "source") {
        return Ok(None);
    }
    let (ttl, bytes_max) = (options.duration("lookup.cache.ttl")?, options.whole("lookup.cache.max_bytes")?);
    Ok(Some(LookupOptions { ttl, bytes_max }))
}

/// What `type` says a table is for.
fn role(options: &mut Options) -> Result<Role> {
    Ok(match options.word("type", &["source", "sink"])?.as_deref() {
        Some("source") => Role::Source,
        Some("sink") => Role::Sink,
        _ => Role::Either,
    })
}

/// The event time and the watermark: as `WATERMARK FOR` says, or the column `otherwise`.
fn set_time(
    planner: &Planner<'_>,
    source: Source<'_>,
    table: &mut Table,
    watermark: Option<(ast::Ident, Option<ast::Expr>)>,
    otherwise: Option<(String, Option<Place>)>,
) -> Result<()> {
    let named = watermark.as_ref().map(|(c, _)| (fold(c), place_of_name(c)));
    if let Some((column, at)) = named.or(otherwise) {
        table.event_time = Some(event_time(source, &table.schema, &column, at)?);
    }
    if let Some((column, Some(expression))) = watermark {
        table.watermark = Some(planner.watermark(&table.schema, expression, place_of_name(&column))?);
    }
    Ok(())
}

/// As [`columns`], for a connector that may know its columns: then none need be written, and others are refused.
fn connector_columns(
    source: Source<'_>,
    connector: &Connector,
    written: &[Column],
) -> Result<(SchemaRef, SchemaRef, bool)> {
    let Some(known) = connector.columns() else { return columns(source, written) };
    if written.is_empty() {
        return Ok((known.clone(), known, false));
    }
    let unknown = |c: &&Column| c.arrives() && known.column_with_name(&fold(&c.name)).is_none();
    if let Some(c) = written.iter().find(unknown) {
        let names = known.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        let message = format!("connector '{}' has no column '{}' here", connector.name(), c.name.value);
        return Err(source.error(place_of_name(&c.name), message, Some(format!("use some of: {names}"))));
    }
    columns(source, written)
}

/// All columns, the arriving ones, and whether some are generated.
fn columns(source: Source<'_>, written: &[Column]) -> Result<(SchemaRef, SchemaRef, bool)> {
    let mut fields: Vec<Field> = Vec::new();
    for c in written {
        let name = fold(&c.name);
        let Some(data_type) = arrow_type(&c.data_type) else {
            return Err(unsupported_type(source, place_of_name(&c.name), &c.data_type, &format!("column '{name}'")));
        };
        if fields.iter().any(|f| *f.name() == name) {
            return Err(source.error(place_of_name(&c.name), format!("column '{name}' is declared twice"), None));
        }
        fields.push(Field::new(name, data_type, c.nullable));
    }
    let arriving: Vec<Field> =
        fields.iter().zip(written).filter(|(_, c)| c.arrives()).map(|(f, _)| f.clone()).collect();
    let generated = arriving.len() < fields.len();
    Ok((Arc::new(Schema::new(fields)), Arc::new(Schema::new(arriving)), generated))
}

/// The columns of `METADATA FROM`.
fn metadata(
    source: Source<'_>,
    connector: &Connector,
    written: &[Column],
    schema: &Schema,
) -> Result<Vec<(Field, Metadata)>> {
    let known = Metadata::of(connector);
    let mut found = Vec::new();
    for (column, field) in written.iter().zip(schema.fields()) {
        let Some(key) = &column.metadata else { continue };
        let place = place_of_name(&column.name);
        let Some(what) = known.iter().find(|m| m.key() == key) else {
            let keys: Vec<&str> = known.iter().map(|m| m.key()).collect();
            let fix = match keys.as_slice() {
                [] => "drop the column".to_string(),
                keys => format!("use one of: {}", keys.join(", ")),
            };
            let message = format!("connector '{}' has no metadata field '{key}'", connector.name());
            return Err(source.error(place, message, Some(fix)));
        };
        if *field.data_type() != what.data_type() {
            let (wanted, have) = (sql_type(&what.data_type()), sql_type(field.data_type()));
            let message =
                format!("incorrect data type for metadata field '{key}'; expected {wanted}, but found {have}");
            return Err(source.error(place, message, Some(format!("declare column '{}' {wanted}", field.name()))));
        }
        found.push((field.as_ref().clone(), *what));
    }
    Ok(found)
}

fn event_time(source: Source<'_>, schema: &Schema, column: &str, place: Option<Place>) -> Result<usize> {
    let Some((at, field)) = schema.column_with_name(column) else {
        let known = schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        let fix = format!("use one of: {known}");
        return Err(source.error(
            place,
            format!("event time column '{column}' does not exist in the table"),
            Some(fix),
        ));
    };
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, None) => Ok(at),
        other => {
            let message = format!("event time column '{column}' has type {}, but expected TIMESTAMP", sql_type(other));
            Err(source.error(place, message, Some("declare it TIMESTAMP, or add a generated TIMESTAMP column".into())))
        }
    }
}
