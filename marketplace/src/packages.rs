//! Where packages are: a folder, S3 or Google Cloud Storage, each under the SHA-256 of its bytes, so that one never changes.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::config::Config;
use crate::problem::{Problem, Result};

/// The store of packages.
#[derive(Debug, Clone)]
pub struct Packages {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Of a local store: what is acknowledged is on the disk.
    folder: Option<PathBuf>,
}

impl Packages {
    /// Opens what the configuration says.
    pub fn open(config: &Config) -> Result<Self> {
        let Some(text) = &config.packages_url else {
            let folder = config.data_dir.join("packages");
            let failed = |e| Problem::unavailable(format!("cannot make {}: {e}", folder.display()));
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let store = LocalFileSystem::new_with_prefix(&folder)?;
            return Ok(Self { store: Arc::new(store), prefix: Path::default(), folder: Some(folder) });
        };
        let bad = |e: &dyn std::fmt::Display| {
            Problem::invalid(format!(
                "packages_url '{text}': {e}; write file:///path, s3://bucket/prefix or gs://bucket/prefix"
            ))
        };
        let url = reqwest::Url::parse(text).map_err(|e| bad(&e))?;
        let (store, prefix) = object_store::parse_url_opts(&url, &config.packages).map_err(|e| bad(&e))?;
        Ok(Self { store: store.into(), prefix, folder: None })
    }

    fn path(&self, sha256: &str) -> Path {
        // Two letters a folder: some file systems are slow with many entries in one.
        let (folder, _) = sha256.split_at_checked(2).unwrap_or((sha256, ""));
        self.prefix.clone().join(folder).join(format!("{sha256}.tar.gz"))
    }

    /// Keeps a package.
    pub async fn put(&self, sha256: &str, package: Bytes) -> Result<()> {
        let path = self.path(sha256);
        self.store.put(&path, PutPayload::from_bytes(package)).await?;
        if let Some(folder) = &self.folder {
            let file = folder.join(path.as_ref());
            let synced = tokio::task::spawn_blocking(move || {
                std::fs::File::open(&file)?.sync_all()?;
                file.parent().map_or(Ok(()), |f| std::fs::File::open(f)?.sync_all())
            });
            let synced = synced.await.map_err(|e| Problem::internal(format!("{e}")))?;
            synced.map_err(|e| Problem::internal(format!("the package store cannot sync: {e}")))?;
        }
        Ok(())
    }

    /// A part of a package; `range` lies within it.
    pub async fn get(&self, sha256: &str, range: Range<u64>) -> Result<Bytes> {
        Ok(self.store.get_range(&self.path(sha256), range).await?)
    }
}
