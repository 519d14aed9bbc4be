//! A local directory as an object store whose writes survive a power cut.
//!
//! `object_store` 0.13 never calls fsync. This wrapper does: the file before it gets its name, then the directory, and
//! every directory above it that this process has not synced yet. Reads and lists are `object_store`'s own.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::error::{DISK_FULL, is_full};

/// Directories remembered as synced; beyond that they are synced again.
const SYNCED_DIRECTORIES_MAX: usize = 10_000;

/// The file system from its root, with durable writes.
#[derive(Debug, Clone)]
pub(crate) struct DurableFileSystem {
    inner: Arc<LocalFileSystem>,
    directories: Arc<SyncedDirectories>,
}

impl DurableFileSystem {
    /// The whole file system: paths are absolute.
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), directories: Arc::default() }
    }

    /// Creates a directory and makes it and every one above it durable.
    pub(crate) fn create_directory(&self, directory: &FilePath) -> io::Result<()> {
        self.directories.ensure(directory)
    }

    async fn synced_parent(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        blocking(move || sync_directory(&parent(&path)).map_err(|e| generic(&path, e))).await
    }
}

impl std::fmt::Display for DurableFileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Durable{}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.inner.put_opts(location, payload, options).await,
        };
        let path = self.inner.path_to_filesystem(location)?;
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            directories.ensure(&parent(&path)).map_err(|e| generic(&path, e))?;
            put_durably(&path, &payload, create)?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let directories = Arc::clone(&self.directories);
        let directory = parent(&path);
        blocking(move || directories.ensure(&directory).map_err(|e| generic(&directory, e))).await?;
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(DurableUpload { upload, path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.synced_parent(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.synced_parent(to).await
    }
}

/// A multipart upload whose completion is durable: nothing refers to the file before `complete` has returned.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        let path = self.path.clone();
        blocking(move || {
            let file = File::open(&path).map_err(|e| generic(&path, e))?;
            synced(file.sync_all(), &path);
            sync_directory(&parent(&path)).map_err(|e| generic(&path, e))
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// The directories whose own entries are known to be on disk.
#[derive(Debug, Default)]
struct SyncedDirectories(Mutex<HashSet<PathBuf>>);

impl SyncedDirectories {
    /// Creates `directory` and its ancestors where they are missing, and syncs the entry of each that was not synced by
    /// this process. The lock is held throughout, so nobody builds on a directory that is not durable yet.
    fn ensure(&self, directory: &FilePath) -> io::Result<()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(directory) {
            return Ok(());
        }
        std::fs::create_dir_all(directory)?;
        for ancestor in directory.ancestors() {
            if known.contains(ancestor) {
                break;
            }
            // A directory that we may not open (above our own) was there before us.
            if let Err(e) = sync_directory(ancestor)
                && e.kind() != io::ErrorKind::PermissionDenied
            {
                return Err(e);
            }
        }
        if known.len() >= SYNCED_DIRECTORIES_MAX {
            known.clear();
        }
        known.extend(directory.ancestors().map(FilePath::to_path_buf));
        Ok(())
    }
}

fn put_durably(path: &FilePath, payload: &PutPayload, create: bool) -> Result<()> {
    let staged = staging_path(path);
    let written = stage(&staged, payload)
        .and_then(|()| if create { std::fs::hard_link(&staged, path) } else { std::fs::rename(&staged, path) });
    if create || written.is_err() {
        // A leftover staging file is invisible to readers and lists; failing to remove it harms nothing.
        let _ = std::fs::remove_file(&staged);
    }
    match written {
        Ok(()) => sync_directory(&parent(path)).map_err(|e| generic(path, e)),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { path: path.display().to_string(), source: Box::new(source) })
        }
        Err(source) => Err(generic(path, source)),
    }
}

fn stage(staged: &FilePath, payload: &PutPayload) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(staged)?;
    for chunk in payload {
        file.write_all(chunk)?;
    }
    synced(file.sync_all(), staged);
    Ok(())
}

/// `x.parquet#123`: `object_store` hides names that end in `#` and digits from its lists.
fn staging_path(path: &FilePath) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.as_os_str().to_os_string();
    name.push(format!("#{}{:09}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

fn parent(path: &FilePath) -> PathBuf {
    path.parent().unwrap_or(FilePath::new("/")).to_path_buf()
}

pub(crate) fn sync_directory(directory: &FilePath) -> io::Result<()> {
    let file = File::open(directory)?;
    synced(file.sync_all(), directory);
    Ok(())
}

/// After a failed fsync the kernel may have dropped the pages and a second fsync would lie: the only safe way on is to
/// end the process and recover from what is on disk.
fn synced(result: io::Result<()>, path: &FilePath) {
    if let Err(e) = result {
        tracing::error!("cannot sync {}: {e}; ending the process, it recovers when started again", path.display());
        std::process::abort();
    }
}

fn generic(path: &FilePath, e: io::Error) -> Error {
    let full = if is_full(&e) { format!("{DISK_FULL}: ") } else { String::new() };
    Error::Generic { store: "local", source: format!("{}: {full}{e}", path.display()).into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::JoinError { source: e }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    fn location(dir: &tempfile::TempDir, name: &str) -> Path {
        Path::from_absolute_path(dir.path().join(name)).unwrap()
    }

    #[tokio::test]
    async fn create_refuses_a_second_writer_and_leaves_no_staging_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new();
        let place = location(&dir, "a/b/c.json");
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&place, "first".into(), create.clone()).await.unwrap();
        let second = store.put_opts(&place, "second".into(), create).await;
        assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
        assert_eq!(store.get(&place).await.unwrap().bytes().await.unwrap(), "first");
        assert_eq!(std::fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn overwrite_replaces_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new();
        let place = location(&dir, "x.parquet");
        store.put(&place, "a long first text".into()).await.unwrap();
        store.put(&place, "short".into()).await.unwrap();
        assert_eq!(store.get(&place).await.unwrap().bytes().await.unwrap(), "short");
    }

    #[tokio::test]
    async fn a_multipart_upload_appears_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = DurableFileSystem::new();
        let place = location(&dir, "new/y.parquet");
        let mut upload = store.put_multipart(&place).await.unwrap();
        upload.put_part("one ".into()).await.unwrap();
        upload.put_part("two".into()).await.unwrap();
        let under = location(&dir, "new");
        assert!(store.list(Some(&under)).try_collect::<Vec<_>>().await.unwrap().is_empty());
        upload.complete().await.unwrap();
        assert_eq!(store.get(&place).await.unwrap().bytes().await.unwrap(), "one two");
    }
}
