//! Reading a Delta table once, as it is when the pipeline starts.
//!
//! Its rows have no order, so no watermark moves before the end: nothing is late, and windows close at the end.

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{Read, Source};
use crate::error::{Error, Result};
use crate::lake::LakeTable;

/// The rows of one version of a table.
pub struct LakeSource {
    stream: SendableRecordBatchStream,
    runtime: Handle,
    schema: SchemaRef,
    name: String,
}

impl LakeSource {
    /// Starts a scan; columns by name, cast to the declared types.
    pub fn new(table: &LakeTable, runtime: Handle, schema: SchemaRef) -> Result<Self> {
        // One partition: the same version is read in the same order after a restart.
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let stream = runtime.block_on(async {
            let rows = context.read_table(table.provider().await?)?.select_columns(&names)?;
            Ok::<_, Error>(rows.execute_stream().await?)
        })?;
        Ok(Self { stream, runtime, schema, name: table.name().to_string() })
    }
}

impl Source for LakeSource {
    fn read(&mut self) -> Result<Read> {
        let Some(batch) = self.runtime.block_on(self.stream.next()) else { return Ok(Read::default()) };
        let batch = batch.map_err(|e| Error::Storage(format!("cannot read table {}: {e}", self.name)))?;
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(c, f)| Ok(cast(c, f.data_type())?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Read { batch: Some(RecordBatch::try_new(self.schema.clone(), columns)?), ..Read::default() })
    }
}
