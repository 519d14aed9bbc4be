//! A disk in memory that forgets what was not synced, for crash tests.
//!
//! Files are inodes with a durable and a current content; directories have a durable set of names and a list of changes
//! that were not synced. A crash keeps, of each file, any subset of the unsynced 512-byte sectors and any length between
//! the two, and of each directory a prefix of the unsynced changes (a journal keeps their order).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

// The tests package takes this file in as a module of its own and gives it the same names.
use super::{DirLock, Fs, FsFile, parent};

const SECTOR_BYTES: usize = 512;

/// Sees every changing operation and decides what becomes of it; an error is what the caller gets.
pub(crate) trait Director: Send + Sync + std::fmt::Debug {
    /// `bytes` is the length of what is written. After an error half of it is in the file, and nothing else happens.
    fn decide(&self, operation: &'static str, path: &Path, bytes: usize) -> io::Result<()>;
}

/// A small generator (splitmix64), so that a seed alone gives the run.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

#[derive(Debug, Clone)]
enum Change {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
}

#[derive(Debug, Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    durable_names: BTreeMap<PathBuf, u64>,
    names: BTreeMap<PathBuf, u64>,
    changes: BTreeMap<PathBuf, Vec<Change>>,
    locks: BTreeSet<PathBuf>,
    inode_next: u64,
    bytes_free: Option<u64>,
    fail_after: Option<u64>,
    fail_sync: bool,
    director: Option<Arc<dyn Director>>,
}

/// The simulated disk; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimFs(Arc<Mutex<Disk>>);

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &Change) {
    match change {
        Change::Add(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl Disk {
    /// Every changing operation passes here: after the power is out, all of them fail.
    fn step(&mut self, operation: &'static str, path: &Path, bytes: usize) -> io::Result<()> {
        if let Some(director) = &self.director {
            director.decide(operation, path, bytes)?;
        }
        match &mut self.fail_after {
            Some(0) => Err(io::Error::other("simulated power cut")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Reading changes nothing: it is no step, but it may fail.
    fn reads(&self, path: &Path, bytes: usize) -> io::Result<()> {
        self.director.as_ref().map_or(Ok(()), |director| director.decide("read", path, bytes))
    }

    fn change(&mut self, dir: &Path, change: Change) {
        apply(&mut self.names, &change);
        self.changes.entry(dir.to_path_buf()).or_default().push(change);
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn content(&self, path: &Path) -> io::Result<&Inode> {
        Ok(&self.inodes[&self.inode(path)?])
    }
}

impl SimFs {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Puts somebody in charge of every operation from now on.
    pub(crate) fn direct(&self, director: Arc<dyn Director>) {
        self.disk().director = Some(director);
    }

    /// What a new process finds after its predecessor was killed: everything, synced or not. The old one stays dead.
    pub(crate) fn kill(&self) -> Self {
        let mut disk = self.disk();
        let after = std::mem::take(&mut *disk);
        disk.fail_after = Some(0);
        let after = Disk { locks: BTreeSet::new(), fail_after: None, director: None, ..after };
        Self(Arc::new(Mutex::new(after)))
    }

    /// The power goes out after `n` more changing operations: every later one fails.
    pub(crate) fn fail_after(&self, n: u64) {
        self.disk().fail_after = Some(n);
    }

    /// Whether every sync of a file fails with EIO from now on.
    pub(crate) fn fail_sync(&self, fail: bool) {
        self.disk().fail_sync = fail;
    }

    /// Bytes that can still be written; `None` is no bound.
    pub(crate) fn set_bytes_free(&self, bytes: Option<u64>) {
        self.disk().bytes_free = bytes;
    }

    /// Flips one bit of the stored file.
    pub(crate) fn flip_bit(&self, path: &Path, byte: usize, bit: u32) {
        let mut disk = self.disk();
        let inode = disk.inode(path).unwrap();
        let inode = disk.inodes.get_mut(&inode).unwrap();
        inode.current[byte] ^= 1 << bit;
        inode.durable = inode.current.clone();
    }

    /// Replaces the stored file, durably.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let number = disk.inode_next;
        disk.inode_next += 1;
        disk.inodes.insert(number, Inode { durable: bytes.to_vec(), current: bytes.to_vec() });
        disk.names.insert(path.to_path_buf(), number);
        disk.durable_names.insert(path.to_path_buf(), number);
    }

    /// What is on the disk when the power comes back: a new disk; the old one stays dead.
    pub(crate) fn crash(&self, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut disk = self.disk();
        disk.fail_after = Some(0);
        let mut names = disk.durable_names.clone();
        for changes in disk.changes.values() {
            let kept = rng.below(changes.len() as u64 + 1) as usize;
            for change in &changes[..kept] {
                apply(&mut names, change);
            }
        }
        let mut inodes = BTreeMap::new();
        for inode in names.values() {
            let content = survive(&disk.inodes[inode], &mut rng);
            inodes.insert(*inode, Inode { durable: content.clone(), current: content });
        }
        let inode_next = disk.inode_next;
        let after = Disk { inodes, durable_names: names.clone(), names, inode_next, ..Disk::default() };
        Self(Arc::new(Mutex::new(after)))
    }
}

/// What a crash leaves of one file.
fn survive(inode: &Inode, rng: &mut Rng) -> Vec<u8> {
    let (durable, current) = (&inode.durable, &inode.current);
    if durable == current {
        return durable.clone();
    }
    let (shorter, longer) = (durable.len().min(current.len()), durable.len().max(current.len()));
    let len = match rng.below(3) {
        0 => durable.len(),
        1 => current.len(),
        _ => shorter + rng.below((longer - shorter) as u64 + 1) as usize,
    };
    let keep_in_8 = rng.below(9);
    let mut content = vec![0; len];
    for start in (0..len).step_by(SECTOR_BYTES) {
        let source = if rng.below(8) < keep_in_8 { current } else { durable };
        let end = (start + SECTOR_BYTES).min(len).min(source.len());
        if start < end {
            content[start..end].copy_from_slice(&source[start..end]);
        }
    }
    content
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: u64,
    path: PathBuf,
}

impl FsFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.fs.disk();
        if let Err(e) = disk.step("write", &self.path, bytes.len()) {
            // The power goes out in the middle of the write.
            let half = bytes.len() / 2;
            if let Some(inode) = disk.inodes.get_mut(&self.inode) {
                inode.current.extend_from_slice(&bytes[..half]);
            }
            return Err(e);
        }
        let room = disk.bytes_free.unwrap_or(u64::MAX).min(bytes.len() as u64) as usize;
        disk.inodes.get_mut(&self.inode).unwrap().current.extend_from_slice(&bytes[..room]);
        if let Some(free) = &mut disk.bytes_free {
            *free -= room as u64;
        }
        if room < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_file(&mut self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.step("sync", &self.path, 0)?;
        if disk.fail_sync {
            return Err(io::Error::other("simulated EIO"));
        }
        let inode = disk.inodes.get_mut(&self.inode).unwrap();
        inode.durable = inode.current.clone();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.fs.disk();
        disk.step("truncate", &self.path, len as usize)?;
        disk.inodes.get_mut(&self.inode).unwrap().current.resize(len as usize, 0);
        Ok(())
    }
}

#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    dir: PathBuf,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.disk().locks.remove(&self.dir);
    }
}

impl Fs for SimFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut disk = self.disk();
        disk.step("create", path, 0)?;
        if disk.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = disk.inode_next;
        disk.inode_next += 1;
        disk.inodes.insert(inode, Inode::default());
        disk.change(parent(path), Change::Add(path.to_path_buf(), inode));
        Ok(Box::new(SimFile { fs: self.clone(), inode, path: path.to_path_buf() }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let inode = self.disk().inode(path)?;
        Ok(Box::new(SimFile { fs: self.clone(), inode, path: path.to_path_buf() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let content = disk.content(path)?;
        disk.reads(path, content.current.len())?;
        Ok(content.current.clone())
    }

    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        let content = &disk.content(path)?.current;
        disk.reads(path, len)?;
        let start = offset as usize;
        content.get(start..start + len).map(<[u8]>::to_vec).ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.disk().content(path)?.current.len() as u64)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step("sync directory", dir, 0)?;
        for change in disk.changes.remove(dir).unwrap_or_default() {
            apply(&mut disk.durable_names, &change);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step("rename", to, 0)?;
        disk.inode(from)?;
        disk.change(parent(to), Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step("link", to, 0)?;
        if disk.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = disk.inode(from)?;
        disk.change(parent(to), Change::Add(to.to_path_buf(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step("remove", path, 0)?;
        disk.inode(path)?;
        disk.change(parent(path), Change::Remove(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let in_dir = disk.names.keys().filter(|p| parent(p) == dir);
        Ok(in_dir.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        if !self.disk().locks.insert(dir.to_path_buf()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { fs: self.clone(), dir: dir.to_path_buf() }))
    }
}
