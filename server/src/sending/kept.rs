//! The runs that are kept: one folder each on the lake's object store, with the files and a note, `run.json`.

use futures::TryStreamExt;
use millstream::lake::Lake;
use millstream::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

/// The folder beside the tables.
const FOLDER: &str = "reports";
const NOTE: &str = "run.json";

/// One run of a report. Times are RFC 3339, UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The report.
    pub report: String,
    /// The folder's name: when it was due, and a mark that tells schedules apart.
    pub run: String,
    /// `schedule`, or who asked for it.
    pub trigger: String,
    /// What it is about; half-open.
    pub from: String,
    /// The end.
    pub to: String,
    /// The zone of its days.
    pub time_zone: String,
    /// When it was made.
    pub generated_at: String,
    /// Up to when its data was complete.
    pub complete_through: Option<String>,
    /// What was made.
    pub files: Vec<KeptFile>,
    /// Whom it is for.
    pub recipients: Vec<Recipient>,
    /// Why there are no files.
    pub error: Option<String>,
    /// How often making or sending was tried.
    pub tries: u32,
    /// The time of the last try, nanoseconds since the epoch.
    pub tried_at: i64,
}

/// One file of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// One reader of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// When the mail server took the mail.
    pub sent_at: Option<String>,
    /// What it said instead.
    pub error: Option<String>,
}

impl Kept {
    /// Whether nothing is left to do.
    pub fn settled(&self) -> bool {
        self.error.is_none() && self.recipients.iter().all(|r| r.sent_at.is_some())
    }
}

fn folder(lake: &Lake) -> Result<Path> {
    let base = Path::from_url_path(lake.url().path());
    Ok(base.map_err(|e| Error::Config(format!("lake '{}': {e}", lake.url())))?.join(FOLDER))
}

fn storage(e: object_store::Error) -> Error {
    Error::Storage(format!("the store of reports: {e}"))
}

/// The place of one file. Names from a URL cannot leave the folder: a path's parts hold no separator.
fn place(lake: &Lake, report: &str, run: &str, file: &str) -> Result<Path> {
    Ok(folder(lake)?.join(report).join(run).join(file))
}

/// Writes a file.
pub async fn write(lake: &Lake, report: &str, run: &str, file: &str, bytes: Vec<u8>) -> Result<()> {
    lake.store().put(&place(lake, report, run, file)?, bytes.into()).await.map(drop).map_err(storage)
}

/// Reads a file; `None` if there is none.
pub async fn read(lake: &Lake, report: &str, run: &str, file: &str) -> Result<Option<Vec<u8>>> {
    match lake.store().get(&place(lake, report, run, file)?).await {
        Ok(found) => Ok(Some(found.bytes().await.map_err(storage)?.to_vec())),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(storage(e)),
    }
}

/// Writes the note.
pub async fn note(lake: &Lake, kept: &Kept) -> Result<()> {
    let text = serde_json::to_vec_pretty(kept).map_err(|e| Error::Bug(format!("a note of a report: {e}")))?;
    write(lake, &kept.report, &kept.run, NOTE, text).await
}

/// The note of one run.
pub async fn find(lake: &Lake, report: &str, run: &str) -> Result<Option<Kept>> {
    let Some(bytes) = read(lake, report, run, NOTE).await? else { return Ok(None) };
    let kept = serde_json::from_slice(&bytes);
    kept.map(Some)
        .map_err(|e| Error::Corrupt(format!("reports/{report}/{run}/{NOTE}: {e}; delete the folder to run it again")))
}

/// The newest runs, newest first.
pub async fn history(lake: &Lake, max: usize) -> Result<Vec<Kept>> {
    let store = lake.store();
    let mut notes: Vec<_> = store.list(Some(&folder(lake)?)).try_collect().await.map_err(storage)?;
    notes.retain(|object| object.location.filename() == Some(NOTE));
    notes.sort_by_key(|note| std::cmp::Reverse(note.last_modified));
    let mut runs = Vec::new();
    for object in notes.into_iter().take(max) {
        let bytes = store.get(&object.location).await.map_err(storage)?.bytes().await.map_err(storage)?;
        // A note that cannot be read is not worth the page.
        runs.extend(serde_json::from_slice::<Kept>(&bytes).ok());
    }
    runs.sort_by(|a, b| b.generated_at.cmp(&a.generated_at));
    Ok(runs)
}
