//! The same SQL over the same rows as a DataFusion batch: an answer that owes nothing to the engine but its parser.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use millstream::sql::parse::{CreateTable, Source, Statement, parse};
use millstream::sql::program::Program;

use super::cells;
use super::compare::Answer;
use super::read::{Script, Step};

/// Words that have no meaning in a batch.
const STREAMING: [&str; 5] = ["tumble(", "hop(", "session(", "cumulate(", " emit "];

/// The batch's answer by table; empty when the script has none to compare with.
pub fn batch(script: &Script) -> Result<BTreeMap<String, Answer>, String> {
    let lower = script.sql.to_lowercase();
    // Of files the engine alone knows the rows.
    if !script.files.is_empty()
        || script.no_batch.is_some()
        || script.batch.is_none() && STREAMING.iter().any(|w| lower.contains(w))
    {
        return Ok(BTreeMap::new());
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    tokio.block_on(answers(script))
}

async fn answers(script: &Script) -> Result<BTreeMap<String, Answer>, String> {
    let mut program = Program::default();
    program.execute(&script.sql, &script.name).map_err(|e| e.to_string())?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let scalars = program.functions.scalar_names().into_iter().filter_map(|name| program.functions.scalar(&name));
    for function in scalars {
        context.register_udf(function.as_ref().clone());
    }
    for function in program.functions.aggregate.values() {
        context.register_udaf(function.as_ref().clone());
    }
    let mut batch = Batch { script, program: &program, context, written: BTreeMap::new() };
    // Of the script itself only the tables count when the batch's statements are given.
    let ours = script.batch.is_some();
    batch.run(&script.sql, ours).await?;
    if let Some(sql) = &script.batch {
        batch.run(sql, false).await?;
    }
    batch.answers()
}

struct Batch<'a> {
    script: &'a Script,
    program: &'a Program,
    context: SessionContext,
    written: BTreeMap<String, (SchemaRef, Vec<RecordBatch>)>,
}

impl Batch<'_> {
    async fn run(&mut self, sql: &str, tables_only: bool) -> Result<(), String> {
        let source = Source { text: sql, file: &self.script.name };
        for placed in parse(source) {
            match placed.map_err(|e| e.to_string())?.statement {
                Statement::CreateTable(table) => self.input(&table).await?,
                Statement::CreateView { .. } | Statement::Insert { .. } if tables_only => {}
                Statement::CreateView { name, query, materialized } => {
                    if materialized {
                        self.fill(&name, &query.to_string()).await?;
                    }
                    let view = self.query(&query.to_string()).await?.into_view();
                    self.context.register_table(&name, view).map_err(|e| e.to_string())?;
                }
                Statement::Insert { table, query, .. } => {
                    self.fill(&table, &query.to_string()).await?;
                }
                Statement::Query { .. } | Statement::CreateFunction(_) | Statement::Set { .. } => {}
            }
        }
        Ok(())
    }

    async fn fill(&mut self, table: &str, query: &str) -> Result<(), String> {
        let frame = self.query(query).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let rows = frame.collect().await.map_err(|e| e.to_string())?;
        self.insert(table, schema, rows)
    }

    async fn query(&self, sql: &str) -> Result<DataFrame, String> {
        self.context.sql(sql).await.map_err(|e| format!("{e}\n  {sql}"))
    }

    /// The rows of a table that the script fills, with its generated columns.
    async fn input(&self, table: &CreateTable) -> Result<(), String> {
        let Some(declared) = self.program.catalog.tables.get(&table.name) else { return Ok(()) };
        let mut batches = Vec::new();
        for step in &self.script.steps {
            if let Step::Rows { table: name, rows, .. } = step
                && *name == table.name
            {
                batches.push(cells::batch(&self.script.name, rows, &declared.arriving)?);
            }
        }
        if !declared.connector.can_read() {
            return Ok(());
        }
        let generated = declared.columns.is_some();
        let name = if generated { format!("{}__arriving", table.name) } else { table.name.clone() };
        self.register(&name, declared.arriving.clone(), batches)?;
        if generated {
            let column = |c: &millstream::sql::parse::Column| match &c.generated {
                Some(e) => format!("CAST({e} AS {}) AS {}", c.data_type, c.name),
                None => c.name.to_string(),
            };
            let columns: Vec<String> = table.columns.iter().map(column).collect();
            let view = self.query(&format!("SELECT {} FROM {name}", columns.join(", "))).await?.into_view();
            self.context.register_table(&table.name, view).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn register(&self, name: &str, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<(), String> {
        let table = MemTable::try_new(schema, vec![batches]).map_err(|e| e.to_string())?;
        self.context.register_table(name, Arc::new(table)).map(drop).map_err(|e| e.to_string())
    }

    /// Adds rows to a table; a later statement may read it.
    fn insert(&mut self, table: &str, schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<(), String> {
        let (schema, written) = self.written.entry(table.to_string()).or_insert((schema, Vec::new()));
        for batch in rows {
            let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
            written.push(batch.map_err(|e| format!("rows of another INSERT INTO {table}: {e}"))?);
        }
        let (schema, written) = (schema.clone(), written.clone());
        self.context.deregister_table(table).map_err(|e| e.to_string())?;
        self.register(table, schema, written)
    }

    fn answers(self) -> Result<BTreeMap<String, Answer>, String> {
        let answer = |(name, (schema, batches)): (String, (SchemaRef, Vec<RecordBatch>))| {
            Ok((name, Answer::new(schema, &batches)?))
        };
        self.written.into_iter().map(answer).collect()
    }
}
