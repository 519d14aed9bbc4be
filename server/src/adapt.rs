//! Where the faces meet the parts beside them, in the words of faces.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use millstream::lake::Maintenance;
use millstream::{Engine, Error, Result};
use millstream_report::{CsvOptions, CsvWriter};

/// Compaction, log checkpoints and vacuum of the tables, within their bounds.
pub async fn maintain(engine: &Engine) -> Result<()> {
    for (table, report) in engine.maintain(&Maintenance::default()).await? {
        if report.files_compacted > 0 || report.files_vacuumed > 0 {
            let (compacted, removed) = (report.files_compacted, report.files_vacuumed);
            tracing::info!(table, compacted, removed, "lake maintenance");
        }
    }
    Ok(())
}

/// Tells the engine the columns of the typed events.
pub fn register_messages(engine: &Engine) -> Result<()> {
    for (message, _) in crate::ingest::MESSAGES {
        engine.register_message(message, crate::ingest::schema_of(message)?)?;
    }
    Ok(())
}

/// CSV by RFC 4180.
pub fn csv(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let mut writer = CsvWriter::new(Vec::new(), schema, CsvOptions::default()).map_err(report_error)?;
    for batch in batches {
        writer.write(batch).map_err(report_error)?;
    }
    let (_, bytes) = writer.finish().map_err(report_error)?;
    String::from_utf8(bytes).map_err(|e| Error::Bug(format!("CSV that is not UTF-8: {e}")))
}

/// An error of the report crate, by who must act.
pub fn report_error(error: millstream_report::Error) -> Error {
    match error {
        millstream_report::Error::Input(message) => Error::sql(message),
        millstream_report::Error::Write(e) => Error::Storage(e.to_string()),
        millstream_report::Error::Bug(message) => Error::Bug(message),
    }
}
