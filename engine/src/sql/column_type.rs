//! SQL column types to Arrow types, and back for people.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, TimezoneInfo};

use super::parse::{Place, Source};
use crate::error::Error;

/// The Arrow type of a column of SQL type `sql`; `None` if it is not supported.
///
/// `TIMESTAMP` is nanoseconds without zone, in UTC, whatever its precision; `TEXT` is `Utf8`.
pub fn arrow_type(sql: &Sql) -> Option<DataType> {
    Some(match sql {
        Sql::Bool | Sql::Boolean => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) | Sql::Int2(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) => DataType::Int32,
        Sql::BigInt(_) | Sql::Int8(_) | Sql::Int64 => DataType::Int64,
        Sql::TinyIntUnsigned(_) => DataType::UInt8,
        Sql::SmallIntUnsigned(_) => DataType::UInt16,
        Sql::IntUnsigned(_) | Sql::IntegerUnsigned(_) => DataType::UInt32,
        Sql::BigIntUnsigned(_) => DataType::UInt64,
        Sql::Float(_) | Sql::Real | Sql::Float4 => DataType::Float32,
        Sql::Double(_) | Sql::DoublePrecision | Sql::Float8 | Sql::Float64 => DataType::Float64,
        Sql::Text | Sql::String(_) | Sql::Varchar(_) | Sql::Char(_) | Sql::CharVarying(_) | Sql::JSON | Sql::JSONB => {
            DataType::Utf8
        }
        Sql::Bytea | Sql::Bytes(_) | Sql::Binary(_) | Sql::Varbinary(_) | Sql::Blob(_) => DataType::Binary,
        Sql::Date => DataType::Date32,
        Sql::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time64(TimeUnit::Nanosecond),
        Sql::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        | Sql::Datetime(_)
        | Sql::TimestampNtz(_) => DataType::Timestamp(TimeUnit::Nanosecond, None),
        Sql::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => decimal(info)?,
        Sql::Array(ArrayElemTypeDef::SquareBracket(of, _) | ArrayElemTypeDef::AngleBracket(of)) => {
            DataType::List(Arc::new(Field::new("item", arrow_type(of)?, true)))
        }
        Sql::Struct(fields, _) => {
            let fields = fields
                .iter()
                .map(|f| Some(Field::new(f.field_name.as_ref()?.value.clone(), arrow_type(&f.field_type)?, true)))
                .collect::<Option<Vec<_>>>()?;
            DataType::Struct(Fields::from(fields))
        }
        _ => return None,
    })
}

/// The error for a type that [`arrow_type`] does not know; `of` names what has it.
pub fn unsupported_type(source: Source<'_>, place: Option<Place>, found: &Sql, of: &str) -> Error {
    let with_zone = match found {
        Sql::Timestamp(_, zone) | Sql::Time(_, zone) => {
            !matches!(zone, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        }
        _ => false,
    };
    if with_zone {
        let fix = "write TIMESTAMP: every time is in UTC, and RFC 3339 texts with an offset are converted";
        let message = format!("timestamps with time zone are not supported ('{found}' of {of})");
        return source.error(place, message, Some(fix.into()));
    }
    let custom = |words: &[&str]| matches!(found, Sql::Custom(name, _) if words.contains(&name.to_string().to_uppercase().as_str()));
    if custom(&["TIMESTAMP_LTZ", "TIMESTAMPLTZ"]) {
        let fix = "write TIMESTAMP: every time is in UTC, and RFC 3339 texts with an offset are converted";
        return source.error(place, format!("unsupported SQL type '{found}' of {of}"), Some(fix.into()));
    }
    let fix = "use BOOLEAN, an integer or float type, DECIMAL(p, s) with p up to 38, TEXT, JSON, BYTEA, DATE, TIME, \
               TIMESTAMP, INTERVAL, STRUCT<...> or TYPE[]";
    source.error(place, format!("unsupported SQL type '{found}' of {of}"), Some(fix.into()))
}

/// An Arrow type as it is written in SQL.
pub fn sql_type(arrow: &DataType) -> String {
    let word = match arrow {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "TINYINT UNSIGNED",
        DataType::UInt16 => "SMALLINT UNSIGNED",
        DataType::UInt32 => "INT UNSIGNED",
        DataType::UInt64 => "BIGINT UNSIGNED",
        DataType::Float16 | DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BYTEA",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::Null => "NULL",
        DataType::Union(..) => "JSON",
        DataType::Decimal128(p, s) => return format!("DECIMAL({p}, {s})"),
        DataType::Dictionary(_, of) => return sql_type(of),
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            return format!("{}[]", sql_type(of.data_type()));
        }
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            return format!("STRUCT<{}>", fields.join(", "));
        }
        other => return other.to_string(),
    };
    word.to_string()
}

fn decimal(info: &ExactNumberInfo) -> Option<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(p) => (*p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
    };
    let (precision, scale) = (u8::try_from(precision).ok()?, i8::try_from(scale).ok()?);
    (1..=38).contains(&precision).then_some(DataType::Decimal128(precision, scale))
}
