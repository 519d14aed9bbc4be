//! What some files of SQL declare together: tables, views and pipelines.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::Query;

use super::catalog::{Catalog, Role, Table, UpdatingTtl};
use super::duration::show_intervals;
use super::functions::Functions;
use super::parse::{Placed, Source, Statement, parse};
use super::plan::Plan;
use super::planner::{Planner, cast_to, reorder};
use super::{memory_table, partition, user_function};
use crate::connectors::Connector;
use crate::error::{Error, Result, SqlError};
use crate::operators::changelog::Changelog;
use crate::operators::union::Union;
use crate::operators::window::show_duration;

/// Tables, views and pipelines, as declared so far.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Tables and views.
    pub catalog: Catalog,
    /// Functions.
    pub functions: Functions,
    /// By name, which is the sink's.
    pub pipelines: BTreeMap<String, Pipeline>,
    /// What runs but may not be meant, with the statement's place: state that grows for ever.
    pub warnings: Vec<SqlError>,
    previews: usize,
}

/// An `INSERT INTO`, or several into the same table, or a bare `SELECT`.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The sink.
    pub sink: Table,
    /// The rows, in the sink's columns.
    pub plan: Plan,
}

impl Program {
    /// Declares everything in a text; `SET` holds to its end. After an error, what came before the failing statement is declared.
    pub fn execute(&mut self, text: &str, file: &str) -> Result<()> {
        let source = Source { text, file };
        self.catalog.updating_ttl = UpdatingTtl::default();
        for statement in parse(source) {
            let Placed { statement, place } = statement?;
            self.statement(source, place, statement).map_err(|e| source.locate(e, Some(place)))?;
        }
        Ok(())
    }

    /// As [`Program::execute`], but goes on after an error and gives all of them.
    pub fn check(&mut self, text: &str, file: &str) -> Vec<Error> {
        let source = Source { text, file };
        self.catalog.updating_ttl = UpdatingTtl::default();
        let check = |statement: Result<Placed>| match statement {
            Ok(Placed { statement, place }) => {
                self.statement(source, place, statement).map_err(|e| source.locate(e, Some(place))).err()
            }
            Err(e) => Some(e),
        };
        parse(source).into_iter().filter_map(check).collect()
    }

    fn statement(&mut self, source: Source<'_>, place: (u64, u64), statement: Statement) -> Result<()> {
        match statement {
            Statement::CreateTable(mut table) => {
                let query = table.query.take();
                let name = table.name.clone();
                self.catalog.create(source, &self.functions, place, table)?;
                match query {
                    Some(query) => self.insert(source, place, name, &[], *query, None),
                    None => Ok(()),
                }
            }
            Statement::CreateView { name, query, materialized } => {
                if materialized {
                    self.materialize(source, place, &name, &query)?;
                }
                let view = Planner::new(source, &self.catalog, &self.functions).view(*query)?;
                if self.catalog.has(&name) {
                    return Err(Error::sql(format!("'{name}' is declared twice")));
                }
                self.catalog.views.insert(name, view);
                Ok(())
            }
            Statement::CreateFunction(f) => user_function::create(source, &self.catalog, &mut self.functions, place, f),
            Statement::Set { name, value } => self.catalog.set(&name, value),
            Statement::Insert { table, columns, query, emit_every } => {
                self.insert(source, place, table, &columns, *query, emit_every)
            }
            Statement::Query { query, emit_every } => {
                self.previews += 1;
                let name = if self.previews == 1 { "stdout".into() } else { format!("stdout_{}", self.previews) };
                let plan = Planner::new(source, &self.catalog, &self.functions).query(*query, emit_every)?;
                self.warn(source, place, &plan);
                let plan = if plan.properties().updating { into_changelog(plan, Vec::new()) } else { plan };
                let sink = inferred(&name, Connector::Stdout(Default::default()), plan.schema());
                self.pipelines.insert(name, Pipeline { sink, plan });
                Ok(())
            }
        }
    }

    /// The rows of a view as a table of the lake: as changes, where they change.
    fn materialize(&mut self, source: Source<'_>, place: (u64, u64), name: &str, query: &Query) -> Result<()> {
        let plan = Planner::new(source, &self.catalog, &self.functions).query(query.clone(), None)?;
        check_names(&plan.schema())?;
        self.warn(source, place, &plan);
        let plan = if plan.properties().updating { into_changelog(plan, Vec::new()) } else { plan };
        let sink = inferred(name, Connector::Lake, plan.schema());
        self.pipelines.insert(name.to_string(), Pipeline { sink, plan });
        Ok(())
    }

    /// Keeps what a plan warns of.
    fn warn(&mut self, source: Source<'_>, place: (u64, u64), plan: &Plan) {
        let warnings = plan.warnings().into_iter().map(|w| source.error(Some(place), w.message, Some(w.fix)));
        self.warnings.extend(warnings.filter_map(|e| if let Error::Query(e) = e { Some(e) } else { None }));
    }

    fn insert(
        &mut self,
        source: Source<'_>,
        place: (u64, u64),
        name: String,
        columns: &[String],
        query: Query,
        emit_every: Option<i64>,
    ) -> Result<()> {
        if let Some(wanted) = self.catalog.memory.get(&name).cloned() {
            return self.fill(source, name, columns, query, &wanted, emit_every);
        }
        if self.catalog.views.contains_key(&name) {
            return Err(Error::sql(format!("attempted to insert into '{name}', but it is a view")));
        }
        let plan = Planner::new(source, &self.catalog, &self.functions).query(query, emit_every)?;
        self.warn(source, place, &plan);
        if plan.sources().contains(&name) {
            return Err(Error::Query(SqlError {
                message: format!("INSERT INTO {name} reads what it writes"),
                fix: Some("write to another table".into()),
                ..SqlError::default()
            }));
        }
        if let Some(table) = self.catalog.tables.get(&name)
            && !table.can_write()
        {
            return Err(Error::sql(format!("attempted to insert into table '{name}', but it is a source")));
        }
        let declared = self.catalog.tables.get(&name).cloned();
        let wanted = declared.as_ref().map(|t| t.schema.clone()).filter(|s| !s.fields().is_empty());
        let wanted = wanted.or_else(|| self.pipelines.get(&name).map(|p| p.sink.schema.clone()));
        let plan = fit(plan, &name, columns, wanted.as_ref())?;
        let plan = changes(plan, &name, declared.as_ref())?;
        if let Some(table) = &declared {
            table.connector.check_columns(&name, &plan.schema())?;
            partition::check(table, &plan.schema())?;
        }
        let sink = match declared {
            Some(table) => Table { schema: plan.schema(), ..table },
            None => inferred(&name, Connector::Lake, plan.schema()),
        };
        match self.pipelines.remove(&name) {
            None => self.pipelines.insert(name, Pipeline { sink, plan }),
            Some(Pipeline { plan: earlier, .. }) => {
                let schema = plan.schema();
                let plan = Plan::of(Union { schema, inputs: 2 }, vec![earlier, plan]);
                self.pipelines.insert(name, Pipeline { sink, plan })
            }
        };
        Ok(())
    }

    /// `INSERT INTO` a memory table: it is a view from then on.
    fn fill(
        &mut self,
        source: Source<'_>,
        name: String,
        columns: &[String],
        query: Query,
        wanted: &SchemaRef,
        emit_every: Option<i64>,
    ) -> Result<()> {
        if self.catalog.views.contains_key(&name) {
            return Err(Error::Query(SqlError {
                message: format!("can only insert into memory table '{name}' once"),
                fix: Some("write one INSERT INTO with UNION ALL".into()),
                ..SqlError::default()
            }));
        }
        if emit_every.is_some() {
            return Err(Error::Query(SqlError {
                message: format!("EMIT EVERY into memory table '{name}'"),
                fix: Some("write EMIT EVERY in the query that reads it".into()),
                ..SqlError::default()
            }));
        }
        let rows = Planner::new(source, &self.catalog, &self.functions).view(query)?;
        self.catalog.views.insert(name.clone(), memory_table::fill(&name, wanted, columns, rows)?);
        Ok(())
    }

    /// Tables that no pipeline reads or writes: usually a forgotten `INSERT INTO`.
    pub fn unused(&self) -> Vec<String> {
        let plans = || self.pipelines.values().map(|p| &p.plan);
        let mut read: Vec<String> = plans().flat_map(|p| p.sources()).collect();
        read.extend(plans().flat_map(|p| p.lookups()).map(|l| l.table));
        let names = self.catalog.tables.keys();
        names.filter(|n| !read.contains(n) && !self.pipelines.contains_key(*n)).cloned().collect()
    }

    /// The tree of every pipeline as text.
    pub fn explain(&self, workers: usize) -> String {
        let mut text = String::new();
        for (name, pipeline) in &self.pipelines {
            text.push_str(&format!("pipeline {name} -> {}\n", pipeline.sink.connector.name()));
            for line in pipeline.plan.tree().lines() {
                text.push_str(&format!("  {line}\n"));
            }
            for source in pipeline.plan.sources() {
                let Some(table) = self.catalog.tables.get(&source) else { continue };
                let time = match table.event_time.and_then(|i| table.schema.fields().get(i)) {
                    Some(f) => format!("event time {}", f.name()),
                    None => "event time = arrival".into(),
                };
                let watermark = match &table.watermark {
                    Some(e) => format!("watermark {e}"),
                    None => "watermark event time - 1s".into(),
                };
                let idle = show_duration(table.idle_after);
                text.push_str(&format!(
                    "  source {source} ({}): {time}, {watermark}, idle after {idle}\n",
                    table.connector.name()
                ));
            }
            text.push_str(&format!("  parallelism: {workers} workers up to the first merge, then 1\n"));
        }
        show_intervals(&text)
    }
}

/// Rows as a sink takes them: as changes where it wants changes; refused where it cannot take them and some come.
fn changes(plan: Plan, name: &str, sink: Option<&Table>) -> Result<Plan> {
    match sink {
        Some(table) if table.changelog => Ok(into_changelog(plan, table.primary_key.clone())),
        _ if plan.properties().updating => Err(Error::Query(SqlError {
            message: format!("the input of '{name}' is updating, but the sink is not an updating one"),
            fix: Some(format!(
                "declare it: CREATE TABLE {name} WITH (connector = ..., format = 'debezium_json'); or group by a window"
            )),
            ..SqlError::default()
        })),
        _ => Ok(plan),
    }
}

fn into_changelog(plan: Plan, key: Vec<usize>) -> Plan {
    let input = plan.schema();
    plan.over(Changelog { input, key })
}

fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn check_names(schema: &Schema) -> Result<()> {
    for (i, field) in schema.fields().iter().enumerate() {
        if schema.fields().iter().take(i).any(|f| f.name() == field.name()) {
            return Err(Error::sql(format!("the query has two columns named '{}'; rename one with AS", field.name())));
        }
    }
    Ok(())
}

fn inferred(name: &str, connector: Connector, schema: SchemaRef) -> Table {
    Table {
        name: name.into(),
        connector,
        arriving: schema.clone(),
        schema,
        columns: None,
        event_time: None,
        watermark: None,
        idle_after: 0,
        future_skew: i64::MAX,
        changelog: false,
        lookup: None,
        role: Role::Either,
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partition: Vec::new(),
    }
}

/// The stream of a source's rejected rows, as a table.
pub fn rejected_stream(source: &str) -> Table {
    let schema = crate::connectors::ingest::REJECTED.clone();
    Table {
        event_time: Some(0),
        ..inferred(&crate::connectors::ingest::rejected_table(source), Connector::Ingest, schema)
    }
}

/// A plan with the columns of its table, if that has some.
fn fit(plan: Plan, name: &str, columns: &[String], wanted: Option<&SchemaRef>) -> Result<Plan> {
    match wanted {
        None if !columns.is_empty() => {
            Err(Error::sql(format!("INSERT INTO {name} names columns, but the table declares none")))
        }
        None => check_names(&plan.schema()).map(|()| plan),
        Some(wanted) if columns.is_empty() => cast_to(plan, name, &nullable(wanted)),
        Some(wanted) => {
            if let Some(unknown) = columns.iter().find(|c| wanted.column_with_name(c).is_none()) {
                return Err(Error::sql(format!("table '{name}' has no column '{unknown}'")));
            }
            if columns.len() != plan.schema().fields().len() {
                return Err(Error::sql(format!(
                    "INSERT INTO {name} names {} columns, but the query has {}",
                    columns.len(),
                    plan.schema().fields().len()
                )));
            }
            reorder(plan, columns, &nullable(wanted))
        }
    }
}
