//! From the engine's Arrow types to those that a Delta table can hold, and rows to match.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};

/// The partition column of every table: the UTC day of the row, a `Date32`.
pub(crate) const DAY: &str = "day";

/// The schema that a table gets for rows of `schema`.
///
/// Timestamps become microseconds in UTC, unsigned integers the next larger signed type (`UInt64`: `Int64`, and a value
/// above its range is an error when written), views and large types the plain ones, dictionaries their values; structs,
/// lists and maps likewise inside. Every column is nullable, except in name `day`, which is the partition.
///
/// Errors: `Config` that names the table, the column and the fix when a type has no place in a Delta table or `day` is
/// missing or no date.
pub fn table_schema(table: &str, schema: &Schema) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data_type = stored_type(field.data_type()).map_err(|fix| {
            Error::Config(format!(
                "column '{}' of table '{table}' has type {}, which a Delta table cannot hold; {fix}",
                field.name(),
                field.data_type()
            ))
        })?;
        fields.push(Field::new(field.name(), data_type, true));
    }
    match fields.iter().find(|f| f.name() == DAY).map(Field::data_type) {
        Some(DataType::Date32) => Ok(Arc::new(Schema::new(fields))),
        Some(other) => Err(Error::Config(format!(
            "column 'day' of table '{table}' has type {other}; the partition column is a date, write CAST(... AS DATE) AS day"
        ))),
        None => Err(Error::Config(format!(
            "table '{table}' has no column 'day'; tables are partitioned by it, add CAST(event_time AS DATE) AS day"
        ))),
    }
}

/// The type in the table, or the fix.
fn stored_type(data_type: &DataType) -> std::result::Result<DataType, &'static str> {
    use DataType as T;
    Ok(match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => {
            data_type.clone()
        }
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 => T::Float32,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date64 => T::Date32,
        T::Timestamp(_, _) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) | T::Decimal256(p, s) => {
            if *p > 38 || *s < 0 {
                return Err("cast it to DECIMAL(38, s) with s from 0 to 38");
            }
            T::Decimal128(*p, *s)
        }
        T::Dictionary(_, value) => stored_type(value)?,
        T::RunEndEncoded(_, value) => stored_type(value.data_type())?,
        T::Struct(fields) => T::Struct(fields.iter().map(|f| stored_field(f, f.name())).collect::<Stored<Fields>>()?),
        T::List(f) | T::LargeList(f) | T::FixedSizeList(f, _) | T::ListView(f) | T::LargeListView(f) => {
            T::List(stored_field(f, "element")?)
        }
        T::Map(entries, _) => stored_map(entries)?,
        T::Null => return Err("give it one, such as CAST(NULL AS VARCHAR)"),
        T::Interval(_) | T::Duration(_) => return Err("store a number, such as extract(epoch FROM ...)"),
        T::Time32(_) | T::Time64(_) => return Err("cast it to VARCHAR or store a timestamp"),
        T::Union(_, _) => return Err("select one of its members"),
    })
}

type Stored<T> = std::result::Result<T, &'static str>;

fn stored_field(field: &FieldRef, name: &str) -> Stored<FieldRef> {
    Ok(Arc::new(Field::new(name, stored_type(field.data_type())?, true)))
}

/// Delta's names for the parts of a map; a key is never null.
fn stored_map(entries: &FieldRef) -> Stored<DataType> {
    let DataType::Struct(parts) = entries.data_type() else { return Err("use a map of keys and values") };
    let (Some(key), Some(value)) = (parts.first(), parts.get(1)) else { return Err("use a map of keys and values") };
    let key = Arc::new(Field::new("key", stored_type(key.data_type())?, false));
    let parts = Fields::from(vec![key, stored_field(value, "value")?]);
    Ok(DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(parts), false)), false))
}

/// The columns that `wanted` has and `stored` lacks. A column that both have must have one type, and the table's own
/// columns may be missing from `wanted` (they are then null).
pub(crate) fn new_columns(table: &str, stored: &Schema, wanted: &Schema) -> Result<Vec<Field>> {
    let mut added = Vec::new();
    for field in wanted.fields() {
        match stored.field_with_name(field.name()) {
            Err(_) => added.push(field.as_ref().clone()),
            Ok(old) if same_type(old.data_type(), field.data_type()) => {}
            Ok(old) => {
                return Err(Error::Config(format!(
                    "column '{0}' of table '{table}' is {1} in the lake but {2} in the SQL; cast it to {1}, or give the \
                     column another name",
                    field.name(),
                    old.data_type(),
                    field.data_type()
                )));
            }
        }
    }
    Ok(added)
}

/// Equal but for nullability, which other writers may have set otherwise.
fn same_type(a: &DataType, b: &DataType) -> bool {
    a == b || a.equals_datatype(b)
}

/// The rows in the table's columns: cast, reordered, and null where `batch` has no such column.
///
/// Errors: `Config` that names a column which the table lacks; `Event` with code `OUT_OF_RANGE` for a value that does not
/// fit its column.
pub(crate) fn align(table: &str, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    for field in batch.schema_ref().fields() {
        if schema.field_with_name(field.name()).is_err() {
            return Err(Error::Config(format!(
                "table '{table}' has no column '{}'; open the table with the new schema first",
                field.name()
            )));
        }
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => stored_column(table, field, column),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn stored_column(table: &str, field: &Field, column: &ArrayRef) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &options).map_err(|e| {
        Error::event(
            "OUT_OF_RANGE",
            format!(
                "column '{}' of table '{table}' cannot hold a value ({} as {}): {e}; cast it in the SELECT",
                field.name(),
                column.data_type(),
                field.data_type()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int64Array, TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::IntervalUnit;

    fn with_day(name: &str, data_type: DataType) -> Schema {
        Schema::new(vec![Field::new(name, data_type, false), Field::new("day", DataType::Date32, false)])
    }

    #[test]
    fn types_become_those_of_delta() {
        let list = DataType::LargeList(Arc::new(Field::new("item", DataType::UInt8, false)));
        let nested = DataType::Struct(vec![Field::new("a", list, false)].into());
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
        for (given, stored) in [
            (DataType::UInt8, "Int16"),
            (DataType::UInt64, "Int64"),
            (DataType::Float16, "Float32"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), "Timestamp(µs, \"UTC\")"),
            (dictionary, "Utf8"),
            (nested, "Struct(\"a\": List(Int16, field: 'element'))"),
        ] {
            let schema = table_schema("t", &with_day("x", given)).unwrap();
            assert_eq!(schema.field(0).data_type().to_string(), stored);
        }
    }

    #[test]
    fn a_type_without_a_place_is_refused_by_name() {
        let schema = with_day("pause", DataType::Interval(IntervalUnit::MonthDayNano));
        assert_eq!(
            table_schema("breaks", &schema).unwrap_err().to_string(),
            "configuration: column 'pause' of table 'breaks' has type Interval(MonthDayNano), which a Delta table cannot \
             hold; store a number, such as extract(epoch FROM ...)"
        );
    }

    #[test]
    fn a_table_without_a_day_is_refused() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        assert_eq!(
            table_schema("t", &schema).unwrap_err().to_string(),
            "configuration: table 't' has no column 'day'; tables are partitioned by it, add CAST(event_time AS DATE) AS day"
        );
    }

    #[test]
    fn rows_are_cast_and_missing_columns_are_null() {
        let schema = table_schema(
            "t",
            &Schema::new(vec![
                Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
                Field::new("n", DataType::UInt64, true),
                Field::new("new", DataType::Utf8, true),
                Field::new("day", DataType::Date32, true),
            ]),
        )
        .unwrap();
        let batch = RecordBatch::try_from_iter([
            ("day", Arc::new(Date32Array::from(vec![1])) as ArrayRef),
            ("n", Arc::new(UInt64Array::from(vec![7])) as ArrayRef),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_234_567])) as ArrayRef),
        ])
        .unwrap();
        let rows = align("t", &batch, &schema).unwrap();
        let at = rows.column(0).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
        assert_eq!((at.value(0), at.timezone()), (1_234, Some("UTC")));
        assert_eq!(rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap().value(0), 7);
        assert!(rows.column(2).is_null(0));
    }

    #[test]
    fn a_value_out_of_range_names_its_column() {
        let schema = table_schema("t", &with_day("n", DataType::UInt64)).unwrap();
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef),
            ("day", Arc::new(Date32Array::from(vec![1])) as ArrayRef),
        ])
        .unwrap();
        let message = align("t", &batch, &schema).unwrap_err().to_string();
        assert!(message.starts_with("OUT_OF_RANGE: column 'n' of table 't' cannot hold a value"), "{message}");
    }
}
