//! What there is: catalogs, schemas, tables, and what the server can do.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, SqlInfo};
use millstream::lake::Lake;

/// The one catalog, and the schema of tables without a dot in their name: as of the PostgreSQL face.
const CATALOG: &str = "millstream";
const SCHEMA: &str = "public";

/// The kind of every table.
const TABLE: &str = "TABLE";

/// Catalogs.
pub fn catalogs(query: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    builder.append(CATALOG);
    builder.build()
}

/// Schemas.
pub fn schemas(query: CommandGetDbSchemas) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    for schema in [SCHEMA, "system"] {
        builder.append(CATALOG, schema);
    }
    builder.build()
}

/// Kinds of tables.
pub fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    builder.append(TABLE);
    builder.build()
}

/// Tables, with their columns where they are asked for.
pub async fn tables(query: CommandGetTables, lake: &Lake) -> millstream::Result<Result<RecordBatch>> {
    let with_columns = query.include_schema;
    let mut builder = query.into_builder();
    for name in lake.names().await? {
        let columns = match with_columns {
            true => lake.existing(&name).await?.map(|table| table.schema()),
            false => None,
        };
        let none = Schema::empty();
        let columns = columns.as_deref().unwrap_or(&none);
        let (schema, table) = name.split_once('.').unwrap_or((SCHEMA, name.as_str()));
        if let Err(e) = builder.append(CATALOG, schema, table, TABLE, columns) {
            return Ok(Err(e));
        }
    }
    Ok(builder.build())
}

/// What the server is and can do.
pub fn about() -> Result<SqlInfoData> {
    let mut about = SqlInfoDataBuilder::new();
    about.append(SqlInfo::FlightSqlServerName, "Millstream");
    about.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    about.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    about.append(SqlInfo::FlightSqlServerReadOnly, true);
    about.append(SqlInfo::FlightSqlServerSql, true);
    about.append(SqlInfo::FlightSqlServerSubstrait, false);
    about.append(SqlInfo::FlightSqlServerTransaction, 0i32);
    about.append(SqlInfo::FlightSqlServerCancel, false);
    about.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    about.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    about.append(SqlInfo::SqlAllTablesAreSelectable, true);
    about.build()
}
