//! What DataFusion's SQL planner asks about names: tables, views and functions.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result as DfResult, TableReference, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};

use super::window_table::WindowTables;
use crate::connectors::Connector;
use crate::sql::catalog::Catalog;
use crate::sql::functions::Functions;

/// A table or view as DataFusion's planner sees it.
#[derive(Debug)]
pub(super) struct StreamTable {
    pub(super) schema: SchemaRef,
    pub(super) view: Option<LogicalPlan>,
}

impl TableSource for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.view.as_ref().map(Cow::Borrowed)
    }
}

pub(super) struct Provider<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) functions: &'a Functions,
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        let name = name.table();
        if let Some(view) = self.catalog.views.get(name) {
            let schema = Arc::new(view.schema().as_arrow().clone());
            return Ok(Arc::new(StreamTable { schema, view: Some(view.clone()) }));
        }
        if self.catalog.memory.contains_key(name) {
            return plan_err!("can't query from memory table '{name}' without first inserting into it");
        }
        let Some(table) = self.catalog.tables.get(name) else {
            let mut known: Vec<&str> =
                self.catalog.tables.values().filter(|t| t.can_read()).map(|t| t.name.as_str()).collect();
            known.extend(self.catalog.views.keys().map(String::as_str));
            let known =
                if known.is_empty() { "none is declared before this statement".to_string() } else { known.join(", ") };
            return plan_err!("table '{name}' not found; tables to read from: {known}");
        };
        if !table.can_read() {
            return plan_err!("attempted to read from table '{name}', but it is a sink");
        }
        if table.changelog && matches!(table.connector, Connector::Lake) {
            return plan_err!("table '{name}' holds changes, which need their order, and a Delta table has none");
        }
        if table.changelog && table.primary_key.is_empty() {
            return plan_err!(
                "a debezium source must have at least one PRIMARY KEY column, but '{name}' has none; write PRIMARY KEY after \
                 the type of the column that names a row"
            );
        }
        Ok(Arc::new(StreamTable { schema: table.schema.clone(), view: None }))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.functions.planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        static PLANNERS: LazyLock<[Arc<dyn RelationPlanner>; 1]> = LazyLock::new(|| [Arc::new(WindowTables)]);
        &*PLANNERS
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.functions.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window_names()
    }
}
