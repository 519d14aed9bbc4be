//! One run of a script through the engine: rows appended in batches, checkpoints, crashes, restarts.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream::time::{ManualClock, WATERMARK_MAX};
use millstream::{Ack, Append, Engine, Error, Options, ProducerSequence, QueryLimits};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::cells;
use super::compare::Answer;
use super::read::{DAY_ONE, Rows, Script, Step};

/// The wall clock stands still, so that a rejected row has one time of arrival, at 2024-01-31: late enough that no event of
/// January is in its future.
const NOW: i64 = DAY_ONE + 30 * 86_400_000_000_000;

/// What every producer promises at the end: that nothing follows, which closes every window and expires nothing.
const END: i64 = WATERMARK_MAX;

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Crashes of one run at most: longer scripts crash after every second batch, every third, ...
const CRASHES_MAX: usize = 6;

/// How a script is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    one_row: bool,
    workers: usize,
    /// After every so many appends, the last of them without its receipt; then the workers take turns.
    crash_every: Option<usize>,
    /// Whether memory is short, so that state that can go to disk is there.
    spills: bool,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = if self.one_row { "one row a batch" } else { "all neighbouring rows in a batch" };
        match self.crash_every {
            None => write!(f, "{batches}, {} workers", self.workers),
            Some(1) => write!(f, "{batches}, a checkpoint and a crash after each"),
            Some(n) => write!(f, "{batches}, a checkpoint and a crash after every {n}"),
        }?;
        f.write_str(if self.spills { ", no memory" } else { "" })
    }
}

impl Run {
    /// The plainest one.
    pub fn first() -> Self {
        Self { one_row: true, workers: 1, crash_every: None, spills: false }
    }

    /// Every way for a script; the first is [`Run::first`].
    pub fn all(script: &Script) -> Vec<Self> {
        let rows = |s: &Step| if let Step::Rows { rows, .. } = s { rows.rows.len() } else { 1 };
        let acts = |one_row: bool| script.steps.iter().map(|s| if one_row { rows(s) } else { 1 }).sum::<usize>();
        let mut runs = Vec::new();
        for one_row in [true, false] {
            if !one_row && acts(true) == acts(false) {
                continue;
            }
            runs.extend([1, 2, 4].map(|workers| Self { one_row, workers, crash_every: None, spills: workers == 4 }));
            if script.no_crash.is_none() {
                let crash_every = Some(acts(one_row).div_ceil(CRASHES_MAX).max(1));
                runs.push(Self { one_row, workers: 2, crash_every, spills: false });
            }
        }
        if script.no_crash.is_none() {
            let crash_every = Some(acts(true).div_ceil(CRASHES_MAX).max(1));
            runs.push(Self { one_row: true, workers: 2, crash_every, spills: true });
        }
        runs
    }
}

/// How a run ended.
pub enum Outcome {
    /// The rows of every table.
    Rows(BTreeMap<String, Answer>),
    /// Why the pipelines stopped.
    Failed(String),
}

enum Act {
    Append(Append),
    Promise { table: String, producer: String, time: i64 },
    Checkpoint,
    Wait { nanoseconds: i64, idle: usize },
}

/// Why a run cannot go on.
enum Stop {
    /// The pipelines failed: perhaps what the script is about.
    Failed(String),
    /// The script or the engine is wrong.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        match e {
            Error::Stopped(why) => Self::Failed(why),
            e => Self::Wrong(e.to_string()),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(e: std::io::Error) -> Self {
        Self::Wrong(e.to_string())
    }
}

struct Player<'a> {
    script: &'a Script,
    run: &'a Run,
    stage: &'a Stage,
    dir: TempDir,
    clock: ManualClock,
    now: i64,
    engine: Option<Engine>,
    restarts: usize,
    idle: usize,
}

/// What the first run of a script leaves for the others: its directory as it was before the first row, with all tables, for
/// to make tables takes most of a run's time; and the columns of the tables.
#[derive(Default)]
pub struct Stage {
    data: OnceCell<TempDir>,
    schemas: OnceCell<BTreeMap<String, SchemaRef>>,
}

/// Runs a script once. The error is a fault of the script or of the engine.
pub fn play(script: &Script, run: &Run, stage: &Stage) -> Result<Outcome, String> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = tokio.map_err(|e| e.to_string())?;
    let dir = directory().map_err(|e| e.to_string())?;
    let clock = ManualClock::at(NOW);
    let mut player = Player { script, run, stage, dir, clock, now: NOW, engine: None, restarts: 0, idle: 0 };
    match tokio.block_on(async { tokio::time::timeout(PATIENCE, player.play()).await }) {
        Ok(Ok(answers)) => Ok(Outcome::Rows(answers)),
        Ok(Err(Stop::Failed(why))) => Ok(Outcome::Failed(why)),
        Ok(Err(Stop::Wrong(why))) => Err(why),
        Err(_) => {
            // Its threads hang: to end them would hang too.
            std::mem::forget(player);
            tokio.shutdown_background();
            Err(format!("it hangs: no end after {} s", PATIENCE.as_secs()))
        }
    }
}

/// In memory where the system has such a place: what a sync to disk is worth is not tested here, and it takes most of the
/// time.
fn directory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return Ok(dir);
    }
    tempfile::tempdir()
}

impl Player<'_> {
    async fn play(&mut self) -> Result<BTreeMap<String, Answer>, Stop> {
        for (name, text) in &self.script.files {
            std::fs::write(self.dir.path().join(name), text)?;
        }
        let data = self.dir.path().join("data");
        if let Some(prepared) = self.stage.data.get() {
            copy(prepared.path(), &data)?;
        }
        self.open().await?;
        if self.stage.data.get().is_none() {
            let prepared = directory()?;
            copy(&data, prepared.path())?;
            let _ = self.stage.data.set(prepared);
        }
        let mut counted = 0;
        for act in self.acts()? {
            self.act(&act).await?;
            counted += usize::from(matches!(act, Act::Append(_) | Act::Promise { .. }));
            if self.run.crash_every.is_some_and(|every| counted % every == 0) {
                self.crash().await?;
                if let Act::Append(rows) = act {
                    self.send_again(rows).await?;
                }
                self.engine()?.flush().await?;
            }
        }
        if !self.script.open_ended {
            self.end().await?;
        }
        if self.run.crash_every.is_some() {
            self.crash().await?;
            if !self.script.open_ended {
                self.files_end().await?;
            }
        }
        self.engine()?.flush().await?;
        // Columns that a table is partitioned by are not in its files.
        let in_files = !self.script.sql.contains("PARTITIONED BY") && !self.script.sql.contains("partitioning.fields");
        match self.stage.schemas.get() {
            Some(schemas) if in_files => self.read_files(schemas),
            _ => {
                let answers = self.read().await?;
                let _ = self.stage.schemas.set(answers.iter().map(|(n, a)| (n.clone(), a.schema())).collect());
                self.engine()?.close().await?;
                Ok(answers)
            }
        }
    }

    fn engine(&self) -> Result<&Engine, Stop> {
        self.engine.as_ref().ok_or_else(|| Stop::Wrong("the engine is not open".into()))
    }

    /// Opens the directory; after a crash with another number of workers.
    async fn open(&mut self) -> Result<(), Stop> {
        let workers = match self.run.crash_every {
            Some(_) => [2, 4, 1][self.restarts % 3],
            None => self.run.workers,
        };
        let options = Options {
            workers,
            checkpoint_interval: Duration::from_secs(86_400),
            clock: std::sync::Arc::new(self.clock.clone()),
            // Always, or now and then.
            state_spill_at: self.run.spills.then_some(self.restarts % 2),
            ..Options::new(self.dir.path().join("data"))
        };
        let engine = crate::reopened(async || Engine::open(options.clone()).await).await?;
        let sql = self.script.sql.replace("$dir", &self.dir.path().display().to_string());
        engine.execute(&sql, &self.script.name).await?;
        engine.start().await?;
        self.engine = Some(engine);
        Ok(())
    }

    /// The engine ends without a checkpoint and is opened again. Every other time it has read all before.
    async fn crash(&mut self) -> Result<(), Stop> {
        if self.restarts.is_multiple_of(2) {
            self.wait_until(|e| e.status().log_read >= e.status().log_end).await?;
        }
        self.restarts += 1;
        self.engine = None;
        self.open().await
    }

    async fn wait_until(&self, done: impl Fn(&Engine) -> bool) -> Result<(), Stop> {
        let engine = self.engine()?;
        while !done(engine) {
            if let Some(why) = engine.status().failure {
                return Err(Stop::Failed(why));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn act(&mut self, act: &Act) -> Result<(), Stop> {
        match act {
            Act::Append(rows) => {
                let n = rows.batch.num_rows() as u64;
                let Ack { accepted, duplicates, .. } = self.engine()?.append(rows.clone()).await?;
                let odd = format!("{accepted} rows of {n} were accepted and {duplicates} known");
                if accepted == n { Ok(()) } else { Err(Stop::Wrong(odd)) }
            }
            Act::Promise { table, producer, time } => Ok(self.engine()?.promise(table, producer, *time).await?),
            Act::Checkpoint => Ok(self.engine()?.flush().await?),
            Act::Wait { nanoseconds, idle } => {
                let marks = idle.saturating_sub(self.idle) as u64;
                self.idle = self.idle.max(*idle);
                let end = self.engine()?.status().log_end + marks;
                self.wait_until(|e| e.status().log_read >= e.status().log_end).await?;
                self.now += nanoseconds;
                self.clock.set(self.now);
                self.wait_until(|e| e.status().log_end >= end).await
            }
        }
    }

    /// The batch whose receipt was lost: it must be known.
    async fn send_again(&self, rows: Append) -> Result<(), Stop> {
        let n = rows.batch.num_rows() as u64;
        let Ack { accepted, duplicates, .. } = self.engine()?.append(rows).await?;
        let odd = format!("{accepted} of {n} rows that were sent again were accepted, and {duplicates} known");
        if accepted == 0 && duplicates == n { Ok(()) } else { Err(Stop::Wrong(odd)) }
    }

    /// Every producer promises that nothing follows.
    async fn end(&self) -> Result<(), Stop> {
        let engine = self.engine()?;
        let mut producers: BTreeSet<(String, String)> = BTreeSet::new();
        for step in &self.script.steps {
            if let Step::Rows { table, producer, .. } | Step::Watermark { table, producer, .. } = step {
                producers.insert((table.clone(), producer.clone()));
            }
        }
        for table in engine.tables().iter().filter(|t| t.connector == "ingest") {
            if !producers.iter().any(|(t, _)| *t == table.name) {
                producers.insert((table.name.clone(), "p".into()));
            }
        }
        for (table, producer) in producers {
            engine.promise(&table, &producer, END).await?;
        }
        self.files_end().await
    }

    /// Waits until the files are read: a flush waits for the log alone.
    async fn files_end(&self) -> Result<(), Stop> {
        if self.script.files.is_empty() {
            return Ok(());
        }
        let ended = |e: &Engine| {
            let status = e.status();
            status.pipelines.iter().filter(|p| !p.name.ends_with("__rejected")).all(|p| p.watermark == END)
        };
        self.wait_until(ended).await
    }

    fn acts(&self) -> Result<Vec<Act>, Stop> {
        let (mut acts, mut sequences) = (Vec::new(), BTreeMap::<String, u64>::new());
        for step in &self.script.steps {
            match step {
                Step::Rows { table, producer, rows } => {
                    for batch in self.batches(table, rows)? {
                        let sequence = sequences.entry(producer.clone()).or_default();
                        *sequence += 1;
                        acts.push(Act::Append(Append {
                            table: table.clone(),
                            producer: producer.clone(),
                            sequence: Some(ProducerSequence { epoch: 1, sequence: *sequence }),
                            batch,
                            rejected: Vec::new(),
                        }));
                    }
                }
                Step::Watermark { table, producer, time } => {
                    acts.push(Act::Promise { table: table.clone(), producer: producer.clone(), time: *time });
                }
                Step::Checkpoint => acts.push(Act::Checkpoint),
                Step::Wait { nanoseconds, idle } => acts.push(Act::Wait { nanoseconds: *nanoseconds, idle: *idle }),
            }
        }
        Ok(acts)
    }

    fn batches(&self, table: &str, rows: &Rows) -> Result<Vec<RecordBatch>, Stop> {
        let at = rows.lines.start;
        let info = self.engine()?.table(table);
        let schema = info.map(|t| t.schema).ok_or_else(|| Stop::Wrong(format!("line {at}: no table '{table}'")))?;
        let all = cells::batch(&self.script.name, rows, &schema).map_err(Stop::Wrong)?;
        let size = if self.run.one_row { 1 } else { all.num_rows().max(1) };
        Ok((0..all.num_rows()).step_by(size).map(|i| all.slice(i, size)).collect())
    }

    /// As [`Player::read`], from the files that the Delta logs name: many times faster than by queries.
    fn read_files(&self, schemas: &BTreeMap<String, SchemaRef>) -> Result<BTreeMap<String, Answer>, Stop> {
        let lake = self.dir.path().join("data/lake");
        let mut answers = BTreeMap::new();
        for entry in std::fs::read_dir(&lake)? {
            let table = entry?.path();
            let name = table.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let wrong = |e: String| Stop::Wrong(format!("{name}: {e}"));
            let batches = delta_rows(&table).map_err(wrong)?;
            let Some(schema) = batches.first().map(|b| b.schema()).or(schemas.get(&name).cloned()) else { continue };
            answers.insert(name.clone(), Answer::new(schema, &batches).map_err(wrong)?);
        }
        Ok(answers)
    }

    /// Everything in every table.
    async fn read(&self) -> Result<BTreeMap<String, Answer>, Stop> {
        let engine = self.engine()?;
        let mut answers = BTreeMap::new();
        for name in engine.lake().names().await? {
            let sql = format!("SELECT * FROM \"{name}\"");
            let result = engine.query(&sql, &BTreeMap::new(), &QueryLimits::default()).await?;
            let answer = Answer::new(result.schema, &result.batches);
            answers.insert(name.clone(), answer.map_err(|e| Stop::Wrong(format!("{name}: {e}")))?);
        }
        Ok(answers)
    }
}

/// The rows of a Delta table whose log was never cut.
fn delta_rows(table: &Path) -> Result<Vec<RecordBatch>, String> {
    let mut files = BTreeSet::new();
    let text = |e: &dyn fmt::Display| e.to_string();
    let mut commits: Vec<_> = std::fs::read_dir(table.join("_delta_log")).map_err(|e| text(&e))?.flatten().collect();
    commits.retain(|f| f.path().extension().is_some_and(|e| e == "json"));
    commits.sort_by_key(|f| f.file_name());
    for commit in commits {
        for line in std::fs::read_to_string(commit.path()).map_err(|e| text(&e))?.lines() {
            let action: serde_json::Value = serde_json::from_str(line).map_err(|e| text(&e))?;
            if let Some(path) = action["add"]["path"].as_str() {
                files.insert(path.replace("%3A", ":").replace("%20", " "));
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                files.remove(path);
            }
        }
    }
    let mut batches = Vec::new();
    for file in files {
        let open = std::fs::File::open(table.join(&file)).map_err(|e| format!("{file}: {e}"))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(open).and_then(|b| b.build()).map_err(|e| text(&e))?;
        batches.extend(reader.collect::<Result<Vec<_>, _>>().map_err(|e| text(&e))?);
    }
    Ok(batches)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
