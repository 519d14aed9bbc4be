//! Reading every live file of a table, to find those that are damaged.
//!
//! Parquet's pages and Delta's commits have no checksums here, so a query may not notice a flipped bit. The names of our
//! files end in the CRC-32 of their bytes; what the log says of a file (length, rows, bounds) must be what is in it.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use bytes::Bytes;
use deltalake_core::kernel::Action;
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::table::state::DeltaTableState;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::encode::{day_text, fits_name};
use super::statistics::statistics;
use super::table::{LakeTable, LiveFile, blocking, live_files, location};
use crate::contained::contained;
use crate::error::{Error, Result};

/// One damaged file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDamage {
    /// Relative to the table's directory.
    pub path: String,
    /// The day of its rows.
    pub day: String,
    /// Its rows, as the table's log has them.
    pub rows: u64,
    /// What is wrong.
    pub what: String,
}

/// What is known of a table's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableReport {
    /// Files read.
    pub files: usize,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged.
    pub damage: Vec<FileDamage>,
}

impl LakeTable {
    /// Reads every live file whole and compares it with its name and with the log.
    ///
    /// Errors: `Storage`, when the store fails or the table's log cannot be read.
    pub async fn scrub(&self) -> Result<TableReport> {
        let files = live_files(self.refreshed().await?.state()?)?;
        let mut report = TableReport { files: files.len(), ..TableReport::default() };
        for file in files {
            let read = match self.files().get(&location(&file.path)?).await {
                Ok(found) => found.bytes().await,
                Err(e) => Err(e),
            };
            let wrong = match read {
                Ok(bytes) => {
                    report.bytes += bytes.len() as u64;
                    examine(&file, bytes).await?
                }
                Err(object_store::Error::NotFound { .. }) => Some("it is missing".to_string()),
                Err(e) => return Err(e.into()),
            };
            if let Some(what) = wrong {
                let day = file.day.map_or(Ok("no day".to_string()), day_text)?;
                let rows = file.view.num_records().unwrap_or(0) as u64;
                report.damage.push(FileDamage { path: file.path, day, rows, what });
            }
        }
        Ok(report)
    }

    /// Takes damaged files out of the table, so that the rest can be read. The files themselves stay until vacuum.
    pub async fn give_up(&self, damage: &[FileDamage]) -> Result<()> {
        let paths: BTreeSet<&str> = damage.iter().map(|d| d.path.as_str()).collect();
        let operation = DeltaOperation::Delete { predicate: None };
        let plan = |state: &DeltaTableState| {
            let gone = live_files(state)?.into_iter().filter(|f| paths.contains(f.path.as_str()));
            let gone: Vec<Action> = gone.map(|f| Action::Remove(f.view.remove_action(true))).collect();
            Ok((!gone.is_empty()).then_some(gone))
        };
        self.publish(&operation, None, plan).await.map(drop)
    }
}

/// What is wrong with a file, if anything is.
async fn examine(file: &LiveFile, bytes: Bytes) -> Result<Option<String>> {
    if bytes.len() as u64 != file.size_bytes {
        return Ok(Some(format!("it has {} bytes, and the table's log says {}", bytes.len(), file.size_bytes)));
    }
    if !fits_name(&file.path, &bytes) {
        return Ok(Some("its bytes do not have the checksum in its name".into()));
    }
    let (stats, rows) = (file.view.stats(), file.view.num_records());
    blocking(move || Ok(compare(bytes, stats.as_deref(), rows).err().map(|e| e.to_string()))).await
}

fn compare(bytes: Bytes, stats: Option<&str>, rows: Option<usize>) -> Result<()> {
    let batches = contained("the file", || {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
        Ok(reader.collect::<std::result::Result<Vec<RecordBatch>, _>>()?)
    })?;
    let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if let Some(rows) = rows.filter(|rows| *rows != found) {
        return Err(Error::Corrupt(format!("it has {found} rows, and the table's log says {rows}")));
    }
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (said, own) = (json(stats.unwrap_or("{}")), json(&statistics(&batches)));
    for bound in ["minValues", "maxValues"] {
        let (Some(Value::Object(said)), Some(own)) = (said.get(bound), own.get(bound)) else { continue };
        // A bound that is not the value's may hide rows from a query.
        if let Some((column, value)) = said.iter().find(|(column, value)| own.get(*column).is_some_and(|o| o != *value))
        {
            return Err(Error::Corrupt(format!(
                "{bound} of '{column}' is {value} in the table's log and not in the file"
            )));
        }
    }
    Ok(())
}
