//! The disk, as the log and the checkpoints need it.
//!
//! Everything that must survive a power cut goes through [`Fs`], so that a simulated disk can stand in. The rules: bytes
//! are durable after [`FsFile::sync_file`], names after [`Fs::sync_dir`] of their directory, and nothing else is. A
//! failed sync says nothing about what is on disk, and the kernel may forget that it failed: it is never retried on the
//! same file, the process ends instead. This module reports such failures; it never decides what to do about them.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

#[cfg(test)]
#[allow(dead_code, reason = "the tests package uses the rest")]
pub(crate) mod sim;

/// A file open for appending.
pub trait FsFile: Send + Debug {
    /// Appends all of `bytes`. After an error any prefix of them may be in the file.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes and the length durable (`fdatasync`). An error must never be followed by a second try.
    fn sync_file(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes; durable after the next [`FsFile::sync_file`].
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Held as long as this process owns a directory; dropping it gives the directory up.
pub trait DirLock: Send + Sync + Debug {}

/// A file system. Paths are used as they are; `list` gives file names without their directory.
pub trait Fs: Send + Sync + Debug {
    /// Creates a file for appending. Errors: `AlreadyExists`.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// Opens an existing file for appending. Errors: `NotFound`.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// `len` bytes from `offset`. Errors: `UnexpectedEof` when the file is shorter.
    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// The length in bytes.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file, replacing `to`; durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name. Errors: `AlreadyExists`, and then nothing has changed.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in `dir`, sorted; directories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its ancestors, all durable on return.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Takes the directory for this process. Errors: `WouldBlock` when another holder has it.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// The name of the file in a directory whose lock says that a process owns the directory.
pub const LOCK_FILE: &str = "LOCK";

/// Takes `dir` for this process, creating it if need be.
///
/// Errors: [`Error::Config`] when another process has it.
pub fn lock_dir(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn DirLock>> {
    fs.create_dir_all(dir).map_err(|e| Error::file(dir, "create", e))?;
    fs.lock_dir(dir).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => Error::Config(format!(
            "{} is in use by another process; stop that process, or choose another data directory",
            dir.display()
        )),
        _ => Error::file(dir, "lock", e),
    })
}

/// Writes `bytes` under `path` so that after a crash there is either the old file or the whole new one: a temporary file,
/// sync, rename, sync of the directory. Durable on return.
pub fn write_atomic(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(fs, path, bytes)?;
    publish_temporary(fs, &temporary, path)
}

/// Gives a synced temporary file its name. Durable on return.
pub fn publish_temporary(fs: &dyn Fs, temporary: &Path, path: &Path) -> io::Result<()> {
    fs.rename(temporary, path)?;
    fs.sync_dir(parent(path))
}

/// Writes `bytes` under `path` unless there is a file already: put-if-absent. Durable on return.
///
/// Errors: `AlreadyExists` when there is, and then that file is untouched. After any other error the file may or may not
/// be there: look before trying again.
pub fn create_exclusive(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(fs, path, bytes)?;
    // A hard link is the one portable "rename unless it exists".
    let linked = fs.hard_link(&temporary, path);
    fs.remove(&temporary)?;
    linked?;
    fs.sync_dir(parent(path))
}

/// The suffix of files that [`create_temporary`] and what uses it may leave behind in a crash; they hold nothing.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

fn write_temporary(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let (temporary, mut file) = create_temporary(fs, path)?;
    file.write_all(bytes)?;
    file.sync_file()?;
    Ok(temporary)
}

/// An empty file beside `path`, to be written, synced and then given its name: see [`publish_temporary`].
pub fn create_temporary(fs: &dyn Fs, path: &Path) -> io::Result<(PathBuf, Box<dyn FsFile>)> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(TEMPORARY_SUFFIX);
    let temporary = path.with_file_name(name);
    // Left behind by a crash: the directory's lock says that no living process writes it.
    match fs.remove(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = fs.create(&temporary)?;
    Ok((temporary, file))
}

/// The directory of a file; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFs;

#[derive(Debug)]
struct DiskFile(File);

impl FsFile for DiskFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The kernel releases the lock when the file is closed, however the process ends.
#[derive(Debug)]
struct DiskLock(#[expect(dead_code, reason = "held for its lock")] File);

impl DirLock for DiskLock {}

impl Fs for DiskFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(DiskFile(OpenOptions::new().append(true).open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // Every directory on the way that is made here needs its name synced in the one above.
        let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
        std::fs::create_dir_all(dir)?;
        for made in missing.iter().rev() {
            self.sync_dir(parent(made))?;
        }
        Ok(())
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(DiskLock(file))),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_file_is_created_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/manifest");
        DiskFs.create_dir_all(parent(&path)).unwrap();
        create_exclusive(&DiskFs, &path, b"first").unwrap();
        let e = create_exclusive(&DiskFs, &path, b"second").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        assert_eq!(DiskFs.read(&path).unwrap(), b"first");
        assert_eq!(DiskFs.list(parent(&path)).unwrap(), ["manifest"]);
        write_atomic(&DiskFs, &path, b"third").unwrap();
        assert_eq!(DiskFs.read(&path).unwrap(), b"third");
        assert_eq!(DiskFs.read_range(&path, 1, 3).unwrap(), b"hir");
    }

    #[test]
    fn a_directory_in_use_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_dir(&DiskFs, dir.path()).unwrap();
        let message = lock_dir(&DiskFs, dir.path()).unwrap_err().to_string();
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        assert!(message.contains("in use by another process"), "{message}");
        drop(held);
        lock_dir(&DiskFs, dir.path()).unwrap();
    }

    #[test]
    fn an_atomic_write_survives_a_crash_whole_or_not_at_all() {
        for seed in 0..200 {
            let fs = sim::SimFs::new();
            let path = Path::new("d/file");
            fs.create_dir_all(parent(path)).unwrap();
            write_atomic(&fs, path, &[1; 2000]).unwrap();
            fs.fail_after(seed % 7);
            let written = write_atomic(&fs, path, &[2; 3000]).is_ok();
            let after = fs.crash(seed);
            let found = after.read(path).unwrap();
            let whole_old = found == [1; 2000];
            let whole_new = found == [2; 3000];
            assert!(whole_new || (whole_old && !written), "seed {seed}: torn or lost");
        }
    }
}
