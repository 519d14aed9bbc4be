//! A query as text to a tree of operators: sqlparser's AST, DataFusion's logical plan (with a short list of its rules
//! that hold for endless inputs), then our [`Plan`].

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result as DfResult, TableReference, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::{cast, col};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Query};

use super::catalog::Catalog;
use super::duration;
use super::functions::{Functions, WINDOW_FUNCTIONS};
use super::parse::{Column, Place, Source, place_of, place_of_name};
use super::plan::Plan;
use super::planning_error;
use crate::error::{Error, Result};
use crate::operators::accumulate::{Aggregate, Aggregation};
use crate::operators::window::Windows;

/// Plans queries of one text against a catalog.
pub struct Planner<'a> {
    source: Source<'a>,
    provider: Provider<'a>,
}

impl<'a> Planner<'a> {
    /// A planner for `source`.
    pub fn new(source: Source<'a>, catalog: &'a Catalog, functions: &'a Functions) -> Self {
        Self { source, provider: Provider { catalog, functions } }
    }

    fn to_rel(&self) -> SqlToRel<'_, Provider<'a>> {
        let options = ParserOptions::new().with_map_string_types_to_utf8view(false).with_collect_spans(true);
        SqlToRel::new_with_options(&self.provider, options)
    }

    /// A view's logical plan.
    pub fn view(&self, query: Query) -> Result<LogicalPlan> {
        let place = place_of(&query);
        self.to_rel().sql_statement_to_plan(ast::Statement::Query(Box::new(query))).map_err(|e| self.error(e, place))
    }

    /// A query's operators.
    pub fn query(&self, query: Query) -> Result<Plan> {
        let place = place_of(&query);
        let plan = self.view(query)?;
        let plan = optimize(plan, &self.provider.functions.options).map_err(|e| self.error(e, place))?;
        self.convert(&plan).map_err(|e| self.source.locate(e, place))
    }

    fn error(&self, e: DataFusionError, place: Option<Place>) -> Error {
        let at = e.diagnostic().and_then(|d| d.span).map(|s| (s.start.line, s.start.column));
        let (message, fix) = planning_error::tell(&e);
        self.source.error(at.or(place), message, fix)
    }

    /// The expressions of a table with generated columns, one per column, over the arriving columns.
    pub fn generated(
        &self,
        written: &[Column],
        arriving: &SchemaRef,
        all: &SchemaRef,
    ) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        written
            .iter()
            .zip(all.fields())
            .map(|(column, field)| match &column.generated {
                None => Ok(col(field.name(), arriving)?),
                Some(e) => {
                    let e = self.expression(arriving, e.clone(), place_of_name(&column.name))?;
                    Ok(cast(e, arriving, field.data_type().clone())?)
                }
            })
            .collect()
    }

    /// The expression of `WATERMARK FOR column AS expression`.
    pub fn watermark(&self, schema: &SchemaRef, e: ast::Expr, place: Option<Place>) -> Result<Arc<dyn PhysicalExpr>> {
        let e = self.expression(schema, e, place)?;
        let found = e.data_type(schema)?;
        if !matches!(found, DataType::Timestamp(..)) {
            let message = format!("the type of the WATERMARK FOR expression must be TIMESTAMP, but was {found}");
            let fix = "write the event time less a delay, such as ts - INTERVAL '5 seconds'".to_string();
            return Err(self.source.error(place, message, Some(fix)));
        }
        Ok(cast(e, schema, DataType::Timestamp(TimeUnit::Nanosecond, None))?)
    }

    /// An expression over the columns of a table, coerced and simplified.
    fn expression(&self, schema: &SchemaRef, e: ast::Expr, place: Option<Place>) -> Result<Arc<dyn PhysicalExpr>> {
        let place = place_of(&e).or(place);
        let plan = (|| {
            let source: Arc<dyn TableSource> = Arc::new(StreamTable { schema: schema.clone(), view: None });
            let scan = LogicalPlanBuilder::scan("t", source, None)?.build()?;
            let df_schema = DFSchema::try_from(schema.clone())?;
            let e = self.to_rel().sql_to_expr(e, &df_schema, &mut PlannerContext::new())?;
            let e = e.alias("e");
            let unqualified = LogicalPlanBuilder::from(scan).project([e])?.build()?;
            let plan = Analyzer::new().execute_and_check(unqualified, &self.provider.functions.options, |_, _| {})?;
            // Some functions exist only until they are simplified; no rule that moves columns may run here.
            let optimizer = Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]);
            optimizer.optimize(plan, &OptimizerContext::new(), |_, _| {})
        })()
        .map_err(|e| self.error(e, place))?;
        match &plan {
            LogicalPlan::Projection(p) => match p.expr.first() {
                Some(e) => physical(e, p.input.schema()).map_err(|e| self.source.locate(e, place)),
                None => Err(Error::Bug("an expression vanished in analysis".into())),
            },
            other => Err(Error::Bug(format!("an expression became {}", other.display()))),
        }
    }

    fn convert(&self, plan: &LogicalPlan) -> Result<Plan> {
        match plan {
            LogicalPlan::SubqueryAlias(s) => self.convert(&s.input),
            LogicalPlan::TableScan(scan) => {
                let table = scan.table_name.table().to_string();
                let all = scan.source.schema();
                let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..all.fields().len()).collect());
                Ok(Plan::Scan { table, schema: Arc::new(all.project(&columns)?), columns })
            }
            LogicalPlan::Projection(p) => {
                for e in &p.expr {
                    refuse_unsupported(e)?;
                }
                let expressions = p.expr.iter().map(|e| physical(e, p.input.schema())).collect::<Result<Vec<_>>>()?;
                Ok(Plan::Project { input: Box::new(self.convert(&p.input)?), expressions, schema: arrow(&p.schema) })
            }
            LogicalPlan::Filter(f) => {
                refuse_unsupported(&f.predicate)?;
                let predicate = physical(&f.predicate, f.input.schema())?;
                Ok(Plan::Filter { input: Box::new(self.convert(&f.input)?), predicate })
            }
            LogicalPlan::Union(u) => {
                let inputs = u.inputs.iter().map(|i| self.convert(i)).collect::<Result<Vec<_>>>()?;
                Ok(Plan::Union { inputs, schema: arrow(&u.schema) })
            }
            LogicalPlan::Aggregate(a) => self.aggregate(a),
            other => Err(refused(other)),
        }
    }

    fn aggregate(&self, a: &datafusion::logical_expr::Aggregate) -> Result<Plan> {
        let input = Box::new(self.convert(&a.input)?);
        let input_schema = a.input.schema();
        let windows: Vec<(usize, WindowCall)> =
            a.group_expr.iter().enumerate().filter_map(|(i, e)| Some((i, WindowCall::of(e)?))).collect();
        let (window_at, call) = match windows.as_slice() {
            [one] => one.clone(),
            [] => {
                return Err(Error::Query(crate::error::SqlError {
                    message: "GROUP BY without a window is not supported in a pipeline yet".into(),
                    fix: Some("add tumble(INTERVAL '1 minute'), hop(...) or session(...) to the GROUP BY, or write it as a rollup".into()),
                    ..Default::default()
                }));
            }
            many => {
                return Err(Error::Query(crate::error::SqlError {
                    message: format!("{} windows in one GROUP BY; a query has one", many.len()),
                    fix: Some("write one INSERT INTO for each window".into()),
                    ..Default::default()
                }));
            }
        };
        let mut groups = Vec::new();
        let mut group_fields = Vec::new();
        for (i, e) in a.group_expr.iter().enumerate().filter(|(i, _)| *i != window_at) {
            refuse_unsupported(e)?;
            groups.push(physical(e, input_schema)?);
            group_fields.push(a.schema.field(i).clone());
        }
        let aggregates = a.aggr_expr.iter().map(|e| aggregate_function(e, input_schema)).collect::<Result<Vec<_>>>()?;
        let aggregation = Arc::new(Aggregation::new(groups, group_fields, aggregates)?);
        let schema = arrow(&a.schema);
        match call.check()? {
            WindowKind::Session(gap) => Ok(Plan::Session { input, aggregation, gap, window_at, schema }),
            WindowKind::Aligned(windows) => Ok(Plan::Window { input, aggregation, windows, window_at, schema }),
        }
    }
}

/// Rows cast to a sink's columns, by position.
pub fn cast_to(plan: Plan, sink: &str, wanted: &SchemaRef) -> Result<Plan> {
    let have = plan.schema();
    if have.fields().len() != wanted.fields().len() {
        let message =
            format!("the query has {} columns but table '{sink}' has {}", have.fields().len(), wanted.fields().len());
        let columns = wanted.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::Query(crate::error::SqlError {
            message,
            fix: Some(format!("select exactly: {columns}")),
            ..Default::default()
        }));
    }
    if have.fields().iter().zip(wanted.fields()).all(|(h, w)| h.name() == w.name() && h.data_type() == w.data_type()) {
        return Ok(plan);
    }
    let mut expressions = Vec::with_capacity(wanted.fields().len());
    for (i, (h, w)) in have.fields().iter().zip(wanted.fields()).enumerate() {
        let column: Arc<dyn PhysicalExpr> = Arc::new(datafusion::physical_expr::expressions::Column::new(h.name(), i));
        let e = cast(column, &have, w.data_type().clone()).map_err(|_| {
            Error::sql(format!(
                "column {} of the query has type {}, which does not cast to {} of '{sink}.{}'",
                i + 1,
                h.data_type(),
                w.data_type(),
                w.name()
            ))
        })?;
        expressions.push(e);
    }
    Ok(Plan::Project { input: Box::new(plan), expressions, schema: wanted.clone() })
}

fn arrow(schema: &DFSchemaRef) -> SchemaRef {
    // Nullability of derived columns is not always exact in a logical plan; nothing here relies on it.
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn physical(e: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(create_physical_expr(e, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?)
}

fn aggregate_function(e: &Expr, schema: &DFSchema) -> Result<Aggregate> {
    let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
    let lowered = LoweredAggregateBuilder::new(e, schema, schema.as_arrow(), &properties, &context).build()?;
    let (function, filter, order) = (lowered.aggregate, lowered.filter, lowered.order_bys);
    if !order.is_empty() && function.order_sensitivity().hard_requires() {
        return Err(Error::sql(format!(
            "ORDER BY inside {} is not supported in a pipeline; sort in the query that reads the table",
            function.name()
        )));
    }
    Ok(Aggregate { function, filter })
}

/// The rules that hold for endless inputs. Left out on purpose: everything about limits, joins, constants in GROUP BY
/// (a window is one) and common subexpressions (they would merge windows).
fn optimize(plan: LogicalPlan, options: &Arc<ConfigOptions>) -> DfResult<LogicalPlan> {
    let plan = Analyzer::new().execute_and_check(plan, options, |_, _| {})?;
    let optimizer = Optimizer::with_rules(vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
    ]);
    optimizer.optimize(plan, &OptimizerContext::new(), |_, _| {})
}

/// A window function in a GROUP BY.
#[derive(Debug, Clone)]
struct WindowCall {
    name: String,
    arguments: Vec<Option<i64>>,
}

enum WindowKind {
    Aligned(Windows),
    Session(i64),
}

impl WindowCall {
    fn of(e: &Expr) -> Option<Self> {
        match e {
            Expr::Alias(a) => Self::of(&a.expr),
            Expr::ScalarFunction(f) if is_window_function(f.name()) => {
                let arguments = f
                    .args
                    .iter()
                    .map(|a| match a {
                        Expr::Literal(v, _) => duration::of_scalar(v),
                        _ => None,
                    })
                    .collect();
                Some(Self { name: f.name().to_string(), arguments })
            }
            _ => None,
        }
    }

    fn check(&self) -> Result<WindowKind> {
        let mut sizes = Vec::new();
        for a in &self.arguments {
            match a {
                Some(n) if *n > 0 => sizes.push(*n),
                Some(_) => return Err(Error::sql(format!("{}: an interval must be longer than zero", self.name))),
                None => {
                    return Err(Error::Query(crate::error::SqlError {
                        message: format!("{}: windows take literal intervals without months", self.name),
                        fix: Some("use days, hours, minutes or seconds, such as INTERVAL '30 days'".into()),
                        ..Default::default()
                    }));
                }
            }
        }
        match (self.name.as_str(), sizes.as_slice()) {
            ("tumble", [width]) => Ok(WindowKind::Aligned(Windows { width: *width, slide: *width })),
            ("hop", [slide, width]) => {
                if slide > width {
                    return Err(Error::sql(
                        "hop(slide, width): the slide is longer than the width, so rows would be dropped between windows",
                    ));
                }
                Ok(WindowKind::Aligned(Windows { width: *width, slide: *slide }))
            }
            ("session", [gap]) => Ok(WindowKind::Session(*gap)),
            _ => Err(Error::Bug(format!("window function {} with {} arguments", self.name, sizes.len()))),
        }
    }
}

fn is_window_function(name: &str) -> bool {
    WINDOW_FUNCTIONS.iter().any(|(n, _)| *n == name)
}

fn refuse_unsupported(e: &Expr) -> Result<()> {
    let mut found = None;
    e.apply(|e| {
        if let Expr::ScalarFunction(f) = e
            && is_window_function(f.name())
        {
            found = Some((
                format!("{} is only allowed in GROUP BY", f.name()),
                "add it to the GROUP BY, then select it by the same expression or by its alias",
            ));
            return Ok(TreeNodeRecursion::Stop);
        }
        if matches!(e, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)) {
            found = Some((
                "a subquery in an expression is not supported in a pipeline yet".to_string(),
                "look up the other table in a rollup or in a query over the tables",
            ));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        None => Ok(()),
        Some((message, fix)) => {
            Err(Error::Query(crate::error::SqlError { message, fix: Some(fix.into()), ..Default::default() }))
        }
    }
}

fn refused(plan: &LogicalPlan) -> Error {
    let (what, fix) = match plan {
        LogicalPlan::Join(_) => ("a join", "join in a rollup or in a query over the tables"),
        LogicalPlan::Window(_) => ("an OVER function", "compute it in a query over the table"),
        LogicalPlan::Sort(_) => ("ORDER BY", "sort in the query that reads the table"),
        LogicalPlan::Limit(_) => ("LIMIT", "limit in the query that reads the table"),
        LogicalPlan::Distinct(_) => ("DISTINCT", "use GROUP BY with a window, or count(DISTINCT ...)"),
        LogicalPlan::Unnest(_) => ("unnest", "unnest in the query that reads the table"),
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => ("a query without a table", "select FROM a table"),
        _ => ("this form", "see the README for what a pipeline can hold"),
    };
    Error::Query(crate::error::SqlError {
        message: format!("{what} is not supported in a pipeline yet"),
        fix: Some(fix.into()),
        ..Default::default()
    })
}

/// A table or view as DataFusion's planner sees it.
#[derive(Debug)]
struct StreamTable {
    schema: SchemaRef,
    view: Option<LogicalPlan>,
}

impl TableSource for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.view.as_ref().map(Cow::Borrowed)
    }
}

struct Provider<'a> {
    catalog: &'a Catalog,
    functions: &'a Functions,
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        let name = name.table();
        if let Some(view) = self.catalog.views.get(name) {
            let schema = Arc::new(view.schema().as_arrow().clone());
            return Ok(Arc::new(StreamTable { schema, view: Some(view.clone()) }));
        }
        let Some(table) = self.catalog.tables.get(name) else {
            let mut known: Vec<&str> =
                self.catalog.tables.values().filter(|t| t.connector.can_read()).map(|t| t.name.as_str()).collect();
            known.extend(self.catalog.views.keys().map(String::as_str));
            let known =
                if known.is_empty() { "none is declared before this statement".to_string() } else { known.join(", ") };
            return plan_err!("table '{name}' not found; tables to read from: {known}");
        };
        if !table.connector.can_read() {
            return plan_err!("attempted to read from table '{name}', but it is a sink");
        }
        Ok(Arc::new(StreamTable { schema: table.schema.clone(), view: None }))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.functions.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window.get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.functions.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window.keys().cloned().collect()
    }
}

/// Names the columns of an `INSERT INTO t (a, b)`: the rest of the sink's columns are null.
pub fn reorder(plan: Plan, columns: &[String], wanted: &SchemaRef) -> Result<Plan> {
    let have = plan.schema();
    let mut expressions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for field in wanted.fields() {
        match columns.iter().position(|c| c == field.name()) {
            Some(i) => {
                let name = have.fields().get(i).map(|f| f.name().clone()).unwrap_or_default();
                let column: Arc<dyn PhysicalExpr> =
                    Arc::new(datafusion::physical_expr::expressions::Column::new(&name, i));
                expressions.push(cast(column, &have, field.data_type().clone())?);
            }
            None => {
                let null = datafusion::scalar::ScalarValue::try_from(field.data_type())?;
                expressions.push(datafusion::physical_expr::expressions::lit(null));
            }
        }
    }
    Ok(Plan::Project { input: Box::new(plan), expressions, schema: wanted.clone() })
}
