//! Rows of the engine as rows of the wire.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_pg::datatypes::arrow_schema_to_pg_fields;
use arrow_pg::encode_recordbatch;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldInfo, QueryResponse};
use pgwire::error::{PgWireError, PgWireResult};

use super::error::{self, new};

/// The columns as the wire describes them.
///
/// *Errors*: 0A000 for a type that the protocol has no word for, such as lists of lists.
pub fn fields(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    if let Format::Individual(formats) = format
        && formats.len() != schema.fields().len()
    {
        let message = format!(
            "{} result formats for {} columns; send none, one, or one each",
            formats.len(),
            schema.fields().len()
        );
        return Err(new("08P01", message));
    }
    let fields = arrow_schema_to_pg_fields(schema, format, None).map_err(cannot_be_sent)?;
    // A column of nothing but NULL has no type; drivers know what to do with text.
    let known = |f: FieldInfo| match *f.datatype() {
        Type::UNKNOWN => FieldInfo::new(f.name().to_string(), None, None, Type::TEXT, f.format()),
        _ => f,
    };
    Ok(fields.into_iter().map(known).collect())
}

/// All rows of an answer.
///
/// *Errors*: 0A000 for a value that the protocol cannot carry, such as a time in a zone that is none.
pub fn rows(schema: &SchemaRef, batches: Vec<RecordBatch>, format: &Format) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(fields(schema, format)?);
    let described = Arc::clone(&fields);
    let rows = batches.into_iter().flat_map(move |batch| encode_recordbatch(Arc::clone(&described), batch));
    // After its first error the encoder gives the same one for ever.
    let rows = rows.collect::<PgWireResult<Vec<_>>>().map_err(cannot_be_sent)?;
    Ok(QueryResponse::new(fields, futures::stream::iter(rows.into_iter().map(Ok))))
}

fn cannot_be_sent(e: PgWireError) -> PgWireError {
    new("0A000", format!("this cannot be sent over PostgreSQL's protocol: {e}; cast it to text"))
}

/// One row with one text.
pub fn text(name: &str, value: &str, format: &Format) -> PgWireResult<QueryResponse> {
    let schema = one_text(name);
    let column = Arc::new(StringArray::from(vec![value]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).map_err(|e| error::of(super::bug(e), ""))?;
    let mut response = rows(&schema, vec![batch], format)?;
    response.set_command_tag("SHOW");
    Ok(response)
}

/// The shape of [`text`].
pub fn one_text(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, true)]))
}
