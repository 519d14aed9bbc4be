//! `pg_catalog` over the lake: what `\d`, Grafana's editor and reflection read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{self, PgCatalogSchemaProvider, PgCatalogStaticTables};
use millstream::batch::Dress;
use millstream::lake::Lake;
use millstream::{QueryLimits, Result};

use super::{bug, functions};

/// The one catalog, which is the database's name.
const CATALOG: &str = "millstream";

/// The schema of tables without a dot in their name.
const SCHEMA: &str = "public";

/// What every query of this face finds beside the tables. Made once: the numbers of tables (oids) must be the same from
/// query to query.
pub fn dress(lake: Lake, limits: &QueryLimits) -> Result<Dress> {
    let tables = Arc::new(PgCatalogStaticTables::try_new().map_err(bug)?);
    let catalog = PgCatalogSchemaProvider::try_new(Tables(lake), Arc::clone(&tables), EmptyContextProvider);
    let catalog: Arc<dyn SchemaProvider> = Arc::new(SystemCatalog(Box::new(catalog.map_err(bug)?)));
    let functions: Vec<ScalarUDF> = system_functions().into_iter().chain(functions::all(limits)).collect();
    Ok(Arc::new(move |session| {
        if let Some(database) = session.catalog(CATALOG) {
            database.register_schema("pg_catalog", Arc::clone(&catalog))?;
        }
        for function in &functions {
            session.register_udf(function.clone());
        }
        session.register_udtf("pg_get_keywords", tables.pg_get_keywords.clone());
        CoerceIntArgsToBigInt::widen(session);
        let state = session.state_ref();
        let planned = SessionStateBuilder::new_from_existing(session.state())
            .with_type_planner(Arc::new(PgOidTypePlanner))
            .build();
        *state.write() = planned;
        Ok(())
    }))
}

/// `pg_catalog` of the catalogue's crate, with its lists as lists.
#[derive(Debug)]
struct SystemCatalog(Box<dyn SchemaProvider>);

#[async_trait]
impl SchemaProvider for SystemCatalog {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async fn table(&self, name: &str) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let table = self.0.table(name).await?;
        if name != "pg_index" {
            return Ok(table);
        }
        // There are no indexes. Clients unnest these columns, which are text in the crate.
        Ok(table.map(|table| Arc::new(EmptyTable::new(with_lists(&table.schema()))) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}

fn with_lists(schema: &Schema) -> SchemaRef {
    let list = |of: DataType| DataType::List(Arc::new(Field::new_list_field(of, true)));
    let typed = schema.fields().iter().map(|field| match field.name().as_str() {
        "indkey" | "indoption" => Field::new(field.name(), list(DataType::Int16), true),
        "indclass" | "indcollation" => Field::new(field.name(), list(DataType::Int32), true),
        _ => field.as_ref().clone(),
    });
    Arc::new(Schema::new(typed.collect::<Vec<_>>()))
}

fn system_functions() -> Vec<ScalarUDF> {
    use pg_catalog::{array_bounds_udf, format_type, has_privilege_udf, pg_get_expr_udf, quote_ident_udf};
    let mut functions = vec![
        pg_catalog::create_current_database_udf(CATALOG),
        pg_catalog::create_current_schema_udf(),
        pg_catalog::create_current_schemas_udf(),
        pg_catalog::create_pg_get_userbyid_udf(),
        pg_catalog::create_pg_table_is_visible(),
        format_type::create_format_type_udf(),
        pg_catalog::create_session_user_udf(),
        pg_get_expr_udf::create_pg_get_expr_udf(),
        pg_catalog::create_pg_get_partkeydef_udf(),
        pg_catalog::create_pg_relation_is_publishable_udf(),
        pg_catalog::create_pg_get_statisticsobjdef_columns_udf(),
        pg_catalog::create_pg_encoding_to_char_udf(),
        pg_catalog::create_pg_backend_pid_udf(),
        pg_catalog::create_pg_relation_size_udf(),
        pg_catalog::create_pg_total_relation_size_udf(),
        pg_catalog::create_pg_stat_get_numscans(),
        pg_catalog::create_pg_get_constraintdef(),
        pg_catalog::create_pg_get_partition_ancestors_udf(),
        quote_ident_udf::create_quote_ident_udf(),
        quote_ident_udf::create_parse_ident_udf(),
        array_bounds_udf::create_array_upper_udf(),
        array_bounds_udf::create_array_lower_udf(),
    ];
    for privilege in
        ["has_table_privilege", "has_schema_privilege", "has_database_privilege", "has_any_column_privilege"]
    {
        functions.push(has_privilege_udf::create_has_privilege_udf(privilege));
    }
    functions
}

/// The lake as the catalogue sees it.
#[derive(Debug, Clone)]
struct Tables(Lake);

impl Tables {
    /// Tables of one schema, without its name.
    async fn of(&self, schema: &str) -> std::result::Result<Vec<String>, DataFusionError> {
        let names = self.0.names().await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let split = names.into_iter().filter_map(|name| match name.split_once('.') {
            Some((of, table)) => (of == schema).then(|| table.to_string()),
            None => (schema == SCHEMA).then_some(name),
        });
        Ok(split.collect())
    }
}

#[async_trait]
impl CatalogInfo for Tables {
    async fn catalog_names(&self) -> std::result::Result<Vec<String>, DataFusionError> {
        Ok(vec![CATALOG.to_string()])
    }

    async fn schema_names(&self, _catalog: &str) -> std::result::Result<Option<Vec<String>>, DataFusionError> {
        Ok(Some(["pg_catalog", "information_schema", SCHEMA, "system"].map(str::to_string).to_vec()))
    }

    async fn table_names(
        &self,
        _catalog: &str,
        schema: &str,
    ) -> std::result::Result<Option<Vec<String>>, DataFusionError> {
        match schema {
            "pg_catalog" | "information_schema" => Ok(Some(Vec::new())),
            schema => self.of(schema).await.map(Some),
        }
    }

    async fn table_schema(
        &self,
        _catalog: &str,
        schema: &str,
        table: &str,
    ) -> std::result::Result<Option<SchemaRef>, DataFusionError> {
        let name = if schema == SCHEMA { table.to_string() } else { format!("{schema}.{table}") };
        let table = self.0.existing(&name).await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(table.map(|table| table.schema()))
    }

    async fn table_type(
        &self,
        _catalog: &str,
        _schema: &str,
        _table: &str,
    ) -> std::result::Result<Option<TableType>, DataFusionError> {
        Ok(Some(TableType::Base))
    }
}
