//! The tables that SQL sees: those of the lake, opened when they are named, at their newest version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use url::Url;

use super::memory::{Memory, Remembered};
use crate::error::Error;
use crate::lake::Lake;

/// The one catalog.
pub(super) const CATALOG: &str = "millstream";

/// The schema of tables without a dot in their name; `system.rollup_runs` is in `system`.
pub(super) const SCHEMA: &str = "public";

#[derive(Debug)]
pub(super) struct LakeCatalog {
    lake: Lake,
    memory: Arc<Memory>,
    /// All tables, where the query asks for a list; otherwise empty, to save the listing.
    names: Arc<Vec<String>>,
    /// Schemas that hold no table of the lake, such as a face's system catalogue.
    others: RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>,
}

impl LakeCatalog {
    pub(super) fn new(lake: Lake, memory: Arc<Memory>, names: Vec<String>) -> Self {
        Self { lake, memory, names: Arc::new(names), others: RwLock::default() }
    }
}

impl CatalogProvider for LakeCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = [SCHEMA.to_string()].into();
        names.extend(self.names.iter().filter_map(|n| Some(n.split_once('.')?.0.to_string())));
        names.into_iter().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(other) = self.others.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(Arc::clone(other));
        }
        let prefix = if name == SCHEMA { String::new() } else { format!("{name}.") };
        let (lake, memory) = (self.lake.clone(), Arc::clone(&self.memory));
        Some(Arc::new(LakeSchema { lake, memory, prefix, names: Arc::clone(&self.names) }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.others.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), schema))
    }
}

#[derive(Debug)]
struct LakeSchema {
    lake: Lake,
    memory: Arc<Memory>,
    /// Empty or `system.`.
    prefix: String,
    names: Arc<Vec<String>>,
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.names
            .iter()
            .filter_map(|n| n.strip_prefix(&self.prefix))
            .filter(|n| !n.contains('.'))
            .map(str::to_string)
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.lake.existing(&format!("{}{name}", self.prefix)).await {
            Ok(Some(table)) => {
                let table = Remembered::open(table, Arc::clone(&self.memory)).await.map_err(external)?;
                Ok(Some(Arc::new(table)))
            }
            Ok(None) => Ok(None),
            // No table can have such a name, so none has.
            Err(Error::Config(_)) => Ok(None),
            Err(e) => Err(external(e)),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.contains(&format!("{}{name}", self.prefix))
    }
}

fn external(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// The object stores that a query can reach: the lake's and no other.
#[derive(Debug)]
pub(super) struct LakeStores(pub(super) Lake);

impl ObjectStoreRegistry for LakeStores {
    /// Tables bring their store along when they are scanned; it is the lake's, so there is nothing to keep.
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let lake = self.0.url();
        if url.scheme() == lake.scheme() && url.host_str() == lake.host_str() && url.port() == lake.port() {
            return Ok(self.0.store());
        }
        Err(DataFusionError::Plan(format!("{url} is outside the lake; queries read its tables only")))
    }
}
