//! `pg_catalog` over the lake: what `\d`, Grafana's editor and reflection read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{self, PgCatalogSchemaProvider, PgCatalogStaticTables};
use millstream::batch::{Batch, Dress};
use millstream::lake::Lake;
use millstream::{QueryLimits, Result};

use super::{bug, command, functions};

/// The one catalog, which is the database's name.
const CATALOG: &str = "millstream";

/// The schema of tables without a dot in their name.
const SCHEMA: &str = "public";

/// What every query of this face finds beside the tables. Made once: the numbers of tables (oids) must be the same from
/// query to query.
///
/// `views` are those that a query can read without parameters.
pub fn dress(batch: Batch, lake: Lake, views: Vec<String>, limits: &QueryLimits) -> Result<Dress> {
    let tables = Arc::new(PgCatalogStaticTables::try_new().map_err(bug)?);
    let relations = Relations { lake, batch, views: Arc::new(views), limits: limits.clone() };
    let catalog = PgCatalogSchemaProvider::try_new(relations, Arc::clone(&tables), Owner);
    let settings = settings(limits)?;
    let catalog: Arc<dyn SchemaProvider> =
        Arc::new(SystemCatalog { catalog: Box::new(catalog.map_err(bug)?), settings });
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

/// The one role: it owns all tables. Whoever logs in is a name of that person's choice with an API key, and is listed nowhere.
#[derive(Debug, Clone)]
struct Owner;

/// How the catalogue's crate calls the owner of tables.
const OWNER: &str = "postgres";

#[async_trait]
impl PgCatalogContextProvider for Owner {
    async fn roles(&self) -> Vec<String> {
        vec![OWNER.to_string()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        (name == OWNER).then(|| Role {
            name: OWNER.to_string(),
            is_superuser: false,
            can_login: false,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}

/// `pg_catalog` of the catalogue's crate, with its lists as lists and the settings of this face.
#[derive(Debug)]
struct SystemCatalog {
    catalog: Box<dyn SchemaProvider>,
    settings: Arc<MemTable>,
}

/// What a column of `pg_settings` has for a setting.
type Cell<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `pg_settings`, as far as clients read it.
fn settings(limits: &QueryLimits) -> Result<Arc<MemTable>> {
    let column =
        |of: Cell| -> ArrayRef { Arc::new(command::SETTINGS.iter().map(|name| of(name)).collect::<StringArray>()) };
    let value = |name: &str| command::setting(name, limits);
    let nothing = |_: &str| None;
    let all: [(&str, Cell); 15] = [
        ("name", &|name| Some(name.to_string())),
        ("setting", &value),
        ("unit", &nothing),
        ("category", &|_| Some("Millstream".to_string())),
        ("short_desc", &nothing),
        ("extra_desc", &nothing),
        ("context", &|_| Some("internal".to_string())),
        ("vartype", &|_| Some("string".to_string())),
        ("source", &|_| Some("default".to_string())),
        ("min_val", &nothing),
        ("max_val", &nothing),
        ("enumvals", &nothing),
        ("boot_val", &value),
        ("reset_val", &value),
        ("sourcefile", &nothing),
    ];
    let rows = RecordBatch::try_from_iter(all.map(|(name, of)| (name, column(of)))).map_err(bug)?;
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(bug)?))
}

#[async_trait]
impl SchemaProvider for SystemCatalog {
    fn table_names(&self) -> Vec<String> {
        self.catalog.table_names()
    }

    async fn table(&self, name: &str) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if name == "pg_settings" {
            return Ok(Some(self.settings.clone()));
        }
        let table = self.catalog.table(name).await?;
        if !matches!(name, "pg_index" | "pg_constraint") {
            return Ok(table);
        }
        // There are no indexes and no keys. Clients unnest these columns, which are text in the crate.
        Ok(table.map(|table| Arc::new(EmptyTable::new(with_lists(&table.schema()))) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.table_exist(name)
    }
}

fn with_lists(schema: &Schema) -> SchemaRef {
    let list = |of: DataType| DataType::List(Arc::new(Field::new_list_field(of, true)));
    let typed = schema.fields().iter().map(|field| match field.name().as_str() {
        "indkey" | "indoption" | "conkey" | "confkey" => Field::new(field.name(), list(DataType::Int16), true),
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

/// The lake's tables and the views, as the catalogue sees them.
#[derive(Debug, Clone)]
struct Relations {
    lake: Lake,
    batch: Batch,
    views: Arc<Vec<String>>,
    limits: QueryLimits,
}

impl Relations {
    /// The columns of a view; none while a table that it reads is not there yet.
    async fn view(&self, name: &str) -> Option<SchemaRef> {
        let sql = format!("SELECT * FROM {name}");
        self.batch.describe(&sql, &BTreeMap::new(), &self.limits).await.ok().map(|described| described.schema)
    }

    /// Tables of one schema, without its name, and the views.
    async fn of(&self, schema: &str) -> std::result::Result<Vec<String>, DataFusionError> {
        let names = self.lake.names().await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let split = names.into_iter().filter_map(|name| match name.split_once('.') {
            Some((of, table)) => (of == schema).then(|| table.to_string()),
            None => (schema == SCHEMA).then_some(name),
        });
        let mut names: Vec<String> = split.collect();
        if schema == SCHEMA {
            for view in self.views.iter() {
                if self.view(view).await.is_some() {
                    names.push(view.clone());
                }
            }
        }
        Ok(names)
    }
}

#[async_trait]
impl CatalogInfo for Relations {
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
        if schema == SCHEMA && self.views.iter().any(|view| view == table) {
            return Ok(self.view(table).await);
        }
        let name = if schema == SCHEMA { table.to_string() } else { format!("{schema}.{table}") };
        let table = self.lake.existing(&name).await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(table.map(|table| table.schema()))
    }

    async fn table_type(
        &self,
        _catalog: &str,
        schema: &str,
        table: &str,
    ) -> std::result::Result<Option<TableType>, DataFusionError> {
        let is_view = schema == SCHEMA && self.views.iter().any(|view| view == table);
        Ok(Some(if is_view { TableType::View } else { TableType::Base }))
    }
}
