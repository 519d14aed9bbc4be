//! `millstream check`: plans everything, runs nothing that anybody sees.
//!
//! A file that has all it needs (its own CREATE TABLE) is planned alone. All others are planned together with
//! `pipelines/`, in an empty data directory that is thrown away: pipelines, then rollups on a day without rows (which makes
//! their tables), then metrics and reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use datafusion::scalar::ScalarValue;
use millstream::{Engine, Error, Result, SqlError, engine};

use super::{Place, clock};
use crate::catalog::{self, SqlFile};
use crate::config::Config;
use crate::range::Range;
use crate::{adapt, schedule};

/// Arguments of `millstream check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream check
  millstream check sessions.sql sql/metrics

Without files it checks pipelines, rollups, metrics and reports of the configuration. Exit status 1 if anything is wrong.")]
pub struct CheckArgs {
    /// Files, or folders of them
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Prints every warning and error to stderr; the last one says how many.
pub async fn run(args: CheckArgs) -> Result<()> {
    let config = args.place.load()?;
    let files = files(&args.paths, &config)?;
    if files.is_empty() {
        return Err(Error::Config("there is no .sql file here; name files or folders to check".into()));
    }
    let mut warnings = Vec::new();
    let errors = check(&config, &files, &mut warnings).await?;
    for warning in &warnings {
        crate::tell!("warning: {warning}");
    }
    for error in &errors {
        crate::tell!("error: {error}");
    }
    match errors.len() {
        0 => {
            crate::tell!("{} files are right", files.len());
            Ok(())
        }
        wrong => Err(Error::Config(format!("{wrong} errors in {} files", files.len()))),
    }
}

/// The files that were named, or all of the configuration.
fn files(paths: &[PathBuf], config: &Config) -> Result<Vec<SqlFile>> {
    let sql = &config.sql;
    let all = [sql.pipelines.clone(), sql.views.clone(), sql.rollups.clone(), sql.metrics.clone(), sql.reports.clone()];
    let mut files = Vec::new();
    for path in if paths.is_empty() { &all[..] } else { paths } {
        if path.is_file() {
            files.push(SqlFile::read(path)?);
        } else if path.is_dir() {
            collect(path, &mut files)?;
        } else if !paths.is_empty() {
            return Err(Error::Config(format!("there is no {}; name an existing file or folder", path.display())));
        }
    }
    Ok(files)
}

/// The SQL files of a folder and the folders in it, in order.
fn collect(dir: &Path, files: &mut Vec<SqlFile>) -> Result<()> {
    files.extend(catalog::pipelines(dir)?);
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::file(dir, "list", e))? {
        let path = entry.map_err(|e| Error::file(dir, "list", e))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    folders.iter().try_for_each(|folder| collect(folder, files))
}

/// What a file is, by its words: comments and folders do not matter.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Has its own tables.
    Alone,
    /// INSERT INTO, or the project's sources.
    Pipeline,
    /// A SELECT with `$day`.
    Rollup,
    /// A metric, or a section of a report.
    Query,
}

fn kind(file: &SqlFile, config: &Config) -> Kind {
    let of_project = file.path.parent().is_some_and(|dir| same(dir, &config.sql.pipelines));
    if file.mentions("CREATE") && !of_project {
        Kind::Alone
    } else if of_project || file.mentions("INSERT") {
        Kind::Pipeline
    } else if file.parameters().contains("day") {
        Kind::Rollup
    } else {
        Kind::Query
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

async fn check(config: &Config, files: &[SqlFile], warnings: &mut Vec<SqlError>) -> Result<Vec<Error>> {
    let mut errors = Vec::new();
    let (alone, together): (Vec<&SqlFile>, Vec<&SqlFile>) = files.iter().partition(|f| kind(f, config) == Kind::Alone);
    for file in alone {
        errors.extend(engine::check(&file.sql, &shown(file)));
        warnings.extend(engine::warnings(&file.sql, &shown(file)));
    }
    if !together.is_empty() {
        let dir = std::env::temp_dir().join(format!("millstream-check-{}", uuid::Uuid::new_v4()));
        let outcome = check_together(config, &together, &dir, &mut errors, warnings).await;
        // What is left in the temporary folder hurts nobody.
        let _ = std::fs::remove_dir_all(&dir);
        outcome?;
    }
    Ok(errors)
}

async fn check_together(
    config: &Config,
    files: &[&SqlFile],
    dir: &Path,
    errors: &mut Vec<Error>,
    warnings: &mut Vec<SqlError>,
) -> Result<()> {
    let mut local = config.clone();
    local.data_dir = dir.to_path_buf();
    local.lake = crate::config::Lake::default();
    let engine = Engine::open(local.engine_options(clock())).await?;
    adapt::register_messages(&engine)?;
    engine.set_views(catalog::views(&config.sql.views)?);
    let named = |file: &SqlFile| files.iter().any(|f| same(&f.path, &file.path));
    let mut pipelines = catalog::pipelines(&config.sql.pipelines)?;
    pipelines.extend(
        files
            .iter()
            .filter(|f| kind(f, config) == Kind::Pipeline && !pipelines.iter().any(|p| same(&p.path, &f.path)))
            .map(|f| (*f).clone())
            .collect::<Vec<_>>(),
    );
    for file in &pipelines {
        // What an unnamed file lacks is told where it is missed.
        errors.extend(engine.execute(&file.sql, &shown(file)).await.err().filter(|_| named(file)));
    }
    warnings.extend(engine.warnings());
    if errors.is_empty() {
        // Makes the tables that rollups and metrics read.
        engine.start().await?;
    }
    let mut rollups = schedule::files(&config.sql.rollups)?;
    rollups.extend(
        files
            .iter()
            .filter(|f| kind(f, config) == Kind::Rollup && !rollups.iter().any(|r| same(&r.path, &f.path)))
            .map(|f| (*f).clone())
            .collect::<Vec<_>>(),
    );
    for file in rollups {
        let named = named(&file);
        let made = engine.rollup(&schedule::rollup(file), 0).await;
        errors.extend(made.err().filter(|_| named));
    }
    let views = catalog::list(&config.sql.views)?;
    for file in files.iter().filter(|file| kind(file, config) == Kind::Query) {
        let values = placeholders(file, &views);
        let answer = engine.query(&file.sql, &values, &config.query_limits()).await;
        errors.extend(answer.err().map(|error| in_file(error, file)));
    }
    engine.close().await
}

/// What the server gives to every query; any other parameter is NULL, which has every type.
fn placeholders(file: &SqlFile, views: &[SqlFile]) -> BTreeMap<String, ScalarValue> {
    let mut given = Range { from: 0, to: millstream::time::DAY }.parameters();
    for name in ["complete_through", "now"] {
        given.insert(name.to_string(), ScalarValue::TimestampNanosecond(Some(0), None));
    }
    given.insert("step".to_string(), ScalarValue::DurationNanosecond(Some(millstream::time::DAY)));
    for (name, value) in [("tz", "UTC"), ("interval", "day"), ("breakdown", "")] {
        given.insert(name.to_string(), ScalarValue::from(value));
    }
    let names = std::iter::once(file).chain(views).flat_map(SqlFile::parameters);
    names.map(|name| (name.clone(), given.get(&name).cloned().unwrap_or(ScalarValue::Null))).collect()
}

fn in_file(error: Error, file: &SqlFile) -> Error {
    match error {
        Error::Query(mut sql) => {
            sql.file = Some(shown(file));
            Error::Query(sql)
        }
        other => other,
    }
}

fn shown(file: &SqlFile) -> String {
    file.path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_ships_is_known_for_what_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let config = Config::parse("", &root.join("millstream.toml")).unwrap();
        let files = files(&[], &config).unwrap();
        let count = |wanted: Kind| files.iter().filter(|file| kind(file, &config) == wanted).count();
        assert_eq!(count(Kind::Pipeline), std::fs::read_dir(root.join("pipelines")).unwrap().count());
        assert_eq!(count(Kind::Rollup), std::fs::read_dir(root.join("sql/rollups")).unwrap().count());
        assert_eq!(count(Kind::Alone), 0);
        assert!(files.iter().all(|file| file.title != file.name), "every file says what it is in its first line");
        for metric in crate::metric::Metric::list(&config).unwrap() {
            assert!(metric.parameters.values().all(|required| !required), "{} is asked without more", metric.file.name);
        }
    }
}
