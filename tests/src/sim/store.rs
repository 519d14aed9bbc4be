//! An object store in memory that the world makes fail.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::world::{Fate, World};

/// The store; clones share it. What it holds outlives every process.
#[derive(Debug, Clone)]
pub struct SimStore {
    inner: Arc<InMemory>,
    world: World,
}

impl SimStore {
    /// An empty store in a world.
    pub fn new(world: World) -> Self {
        Self { inner: Arc::new(InMemory::new()), world }
    }

    /// What it holds, without faults and traces, for those who check.
    pub fn calm(&self) -> Arc<InMemory> {
        self.inner.clone()
    }

    /// Copies everything into a directory, for readers that know only disks.
    pub async fn save(&self, directory: &std::path::Path) {
        let objects: Vec<_> = self.inner.list(None).collect().await;
        for object in objects {
            let location = object.expect("memory does not fail").location;
            let bytes = self.inner.get(&location).await.expect("it is listed").bytes().await.expect("it is in memory");
            let path = directory.join(location.as_ref().replace("%3D", "="));
            std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
            std::fs::write(path, bytes).expect("a file");
        }
    }

    fn read(&self, operation: &str, path: &str) -> Result<()> {
        match self.world.store_step(operation, path, false, false) {
            Fate::Refused(why) | Fate::Lost(why) => Err(error(why)),
            Fate::Done | Fate::Overtaken => Ok(()),
        }
    }
}

impl std::fmt::Display for SimStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimStore")
    }
}

fn error(why: &str) -> Error {
    Error::Generic { store: "simulated", source: why.to_string().into() }
}

/// A commit of somebody else that changes nothing.
const FOREIGN: &str =
    r#"{"commitInfo":{"timestamp":1704067200000,"operation":"SET TBLPROPERTIES","operationParameters":{}}}"#;

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let commits = matches!(options.mode, PutMode::Create) && location.as_ref().ends_with(".json");
        // A table's first commit has to be a creation.
        let commits = commits && !location.as_ref().ends_with("00000000000000000000.json");
        match self.world.store_step("put", location.as_ref(), true, commits) {
            Fate::Refused(why) => return Err(error(why)),
            Fate::Lost(why) => {
                // Whatever came of it, the caller does not hear of it.
                let _ = self.inner.put_opts(location, payload, options).await;
                return Err(error(why));
            }
            Fate::Overtaken => drop(self.inner.put_opts(location, FOREIGN.into(), options.clone()).await),
            Fate::Done => {}
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.read("upload", location.as_ref())?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read("get", location.as_ref())?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read("get", location.as_ref())?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.read("delete", location.as_ref())?;
                store.inner.delete(&location).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read("list", prefix.map_or("", |p| p.as_ref())) {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read("list", prefix.map_or("", |p| p.as_ref())) {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(e) => futures::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read("list", prefix.map_or("", |p| p.as_ref()))?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read("copy", to.as_ref())?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.read("rename", to.as_ref())?;
        self.inner.rename_opts(from, to, options).await
    }
}
