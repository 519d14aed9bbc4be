//! Writing a Delta table: Parquet files held back until the checkpoint is durable, then one commit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Handle;

use super::{Commit, Sink};
use crate::error::{Error, Result};
use crate::lake::{LakeTable, PendingFile};
use crate::message::Rows;
use crate::time::day_of;

/// The column that tables are partitioned by: the UTC day of a row's event time.
pub const DAY_COLUMN: &str = "day";

/// Rows held in memory before a file is written, and their bytes.
const ROWS_PER_FILE: usize = 1 << 20;
const BYTES_PER_FILE: usize = 128 << 20;

/// A table's columns from a pipeline's: with `day` at the end.
pub fn with_day(schema: &Schema) -> Result<SchemaRef> {
    if schema.column_with_name(DAY_COLUMN).is_some() {
        return Err(Error::sql(format!(
            "the column name '{DAY_COLUMN}' is taken by the partition of the table; rename it in the SELECT"
        )));
    }
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(DAY_COLUMN, DataType::Date32, false)));
    Ok(Arc::new(Schema::new(fields)))
}

/// Buffers rows and writes Parquet files that nobody sees yet.
pub struct LakeSink {
    table: LakeTable,
    runtime: Handle,
    schema: SchemaRef,
    writer: String,
    buffer: Vec<RecordBatch>,
    buffered_rows: usize,
    buffered_bytes: usize,
    checkpoint: u64,
    /// The table has the rows of the checkpoints up to this one.
    committed: u64,
    files: Vec<PendingFile>,
    parts: u32,
}

impl LakeSink {
    /// `writer` names the pipeline in file names; `first` is the number of the next checkpoint.
    pub fn new(table: LakeTable, runtime: Handle, schema: SchemaRef, writer: String, first: u64) -> Self {
        let (buffer, files) = (Vec::new(), Vec::new());
        let (buffered_rows, buffered_bytes, committed, parts) = (0, 0, 0, 0);
        let checkpoint = first;
        Self {
            table,
            runtime,
            schema,
            writer,
            buffer,
            buffered_rows,
            buffered_bytes,
            checkpoint,
            committed,
            files,
            parts,
        }
    }

    /// Writes nothing of the checkpoints up to `committed`: they are taken again, and the table has their rows.
    pub fn after(self, committed: Option<u64>) -> Self {
        Self { committed: committed.unwrap_or(0), ..self }
    }

    fn write_files(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        (self.buffered_rows, self.buffered_bytes) = (0, 0);
        if buffer.is_empty() {
            return Ok(());
        }
        let write = || self.runtime.block_on(self.table.write(&self.writer, self.checkpoint, self.parts, &buffer));
        let files = self.table.while_full(write)?;
        self.files.extend(files);
        self.parts += 1;
        Ok(())
    }
}

impl Sink for LakeSink {
    fn write(&mut self, rows: &Rows) -> Result<()> {
        if self.checkpoint <= self.committed {
            return Ok(());
        }
        let days: ArrayRef = Arc::new(Date32Array::from_iter_values(rows.time.values().iter().map(|t| day_of(*t))));
        let mut columns = rows.batch.columns().to_vec();
        columns.push(days);
        let own = columns.iter().map(|c| c.to_data().get_slice_memory_size());
        self.buffered_bytes += own.sum::<std::result::Result<usize, _>>()?;
        self.buffer.push(RecordBatch::try_new(self.schema.clone(), columns)?);
        self.buffered_rows += rows.len();
        if self.buffered_rows >= ROWS_PER_FILE || self.buffered_bytes >= BYTES_PER_FILE {
            self.write_files()?;
        }
        Ok(())
    }

    fn prepare(&mut self, checkpoint: u64) -> Result<Value> {
        self.write_files()?;
        self.checkpoint = checkpoint + 1;
        self.parts = 0;
        let files = std::mem::take(&mut self.files);
        serde_json::to_value(&files).map_err(|e| Error::Bug(format!("pending files do not serialise: {e}")))
    }
}

/// What a checkpoint holds for a table.
#[derive(Deserialize)]
#[serde(untagged)]
enum Prepared {
    /// Files that come to those of the table.
    Append(Vec<PendingFile>),
    /// Files that take the place of all others: the pipeline was rebuilt.
    Replace { replace: Vec<PendingFile> },
}

/// Commits a pipeline's files to its table, once per checkpoint.
pub struct LakeCommit {
    table: LakeTable,
    runtime: Handle,
    app_id: String,
}

impl LakeCommit {
    /// `app_id` is the transaction's application: `pipeline/sink`.
    pub fn new(table: LakeTable, runtime: Handle, app_id: String) -> Self {
        Self { table, runtime, app_id }
    }
}

impl Commit for LakeCommit {
    fn commit(&self, checkpoint: u64, prepared: &Value) -> Result<()> {
        let prepared: Prepared = serde_json::from_value(prepared.clone()).map_err(|e| {
            Error::Corrupt(format!("the pending files of {} in checkpoint {checkpoint}: {e}", self.app_id))
        })?;
        let version = checkpoint as i64;
        match prepared {
            Prepared::Append(files) if files.is_empty() => {}
            Prepared::Append(files) => {
                let commit = || self.runtime.block_on(self.table.commit(&self.app_id, version, &files));
                self.table.while_full(commit)?;
            }
            Prepared::Replace { replace } => {
                let commit = || self.runtime.block_on(self.table.commit_replacing(&self.app_id, version, &replace));
                self.table.while_full(commit)?;
            }
        }
        Ok(())
    }

    fn committed(&self) -> Result<Option<u64>> {
        Ok(self.runtime.block_on(self.table.transaction(&self.app_id))?.map(i64::unsigned_abs))
    }
}
