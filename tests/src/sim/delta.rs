//! A Delta table read by its specification, without the library that wrote it: the log's JSON entries, then Parquet.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// A table's log, followed from its first entry.
#[derive(Debug, Default)]
pub struct Delta {
    /// Every file that ever brought rows, in the order of the commits.
    pub appended: Vec<String>,
    /// The files of the table now.
    pub live: Vec<String>,
    /// What contradicts the rules of the log or ours.
    pub wrong: Vec<String>,
}

/// The rows of some files.
pub type Live = Vec<RecordBatch>;

async fn bytes(store: &InMemory, path: &Path) -> Result<Bytes, object_store::Error> {
    store.get(path).await?.bytes().await
}

impl Delta {
    /// Follows the log of the table in `directory`; `None` if there is none.
    pub async fn load(store: &InMemory, directory: &str) -> Option<Self> {
        let log = Path::from(format!("{directory}/_delta_log"));
        let listed = store.list_with_delimiter(Some(&log)).await.ok()?;
        let mut entries: Vec<Path> = listed.objects.into_iter().map(|o| o.location).collect();
        entries.retain(|p| p.as_ref().ends_with(".json"));
        entries.sort();
        if entries.is_empty() {
            return None;
        }
        let mut table = Self::default();
        let mut transactions: BTreeMap<String, i64> = BTreeMap::new();
        for (version, entry) in entries.iter().enumerate() {
            if entry.filename() != Some(format!("{version:020}.json").as_str()) {
                table.wrong.push(format!("{directory}: entry {version} of the log is {entry}"));
            }
            let text = bytes(store, entry).await.expect("a listed entry can be read");
            for line in String::from_utf8_lossy(&text).lines().filter(|l| !l.is_empty()) {
                match serde_json::from_str(line) {
                    Ok(action) => table.apply(directory, &action, &mut transactions),
                    Err(e) => table.wrong.push(format!("{directory}: {entry}: {e}")),
                }
            }
        }
        Some(table)
    }

    fn apply(&mut self, directory: &str, action: &Value, transactions: &mut BTreeMap<String, i64>) {
        let path = |v: &Value| v["path"].as_str().unwrap_or_default().replace("%3D", "=");
        if let Some(add) = action.get("add") {
            if self.live.contains(&path(add)) {
                self.wrong.push(format!("{directory}: file {} is added twice", path(add)));
            }
            self.live.push(path(add));
            if add["dataChange"] == Value::Bool(true) {
                self.appended.push(path(add));
            }
        }
        if let Some(remove) = action.get("remove") {
            self.live.retain(|p| *p != path(remove));
        }
        if let Some(txn) = action.get("txn") {
            let (app, version) = (txn["appId"].to_string(), txn["version"].as_i64().unwrap_or(-1));
            let before = transactions.insert(app.clone(), version);
            if before.is_some_and(|b| b >= version) {
                self.wrong.push(format!("{directory}: transaction {version} of {app} comes after {before:?}"));
            }
        }
    }

    /// The rows of some of its files, in order; a file that is not there is noted as wrong.
    pub async fn rows(&mut self, store: &InMemory, directory: &str, files: &[String]) -> Live {
        let mut rows = Vec::new();
        for file in files {
            let path = Path::from(format!("{directory}/{file}"));
            let read = match bytes(store, &path).await {
                Ok(content) => ParquetRecordBatchReaderBuilder::try_new(content)
                    .and_then(|b| b.build())
                    .map_err(|e| e.to_string())
                    .and_then(|r| r.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())),
                Err(e) => Err(e.to_string()),
            };
            match read {
                Ok(batches) => rows.extend(batches),
                Err(e) => self.wrong.push(format!("{directory}: file {file}: {e}")),
            }
        }
        rows
    }
}
