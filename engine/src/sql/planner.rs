//! A query as text to a tree of operators: sqlparser's AST, DataFusion's logical plan (with a short list of its rules
//! that hold for endless inputs), then our [`Plan`].

mod aggregate;
mod as_of;
mod distinct_on;
mod early;
mod exists;
mod interval;
mod join;
mod lookup;
mod optimize;
mod output;
mod over;
mod provider;
mod refuse;
mod row_time;
mod row_values;
mod sort;
mod spelling;
mod subquery;
mod time_column;
mod unnest;
mod unnest_from;
mod updating;
mod window_table;
mod windows;

use std::cell::Cell;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext};
use datafusion::physical_expr::expressions::{cast, col};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{self, Query};

use super::catalog::Catalog;
use super::functions::Functions;
use super::parse::{Column, Place, Source, place_of, place_of_name};
use super::plan::Plan;
use super::planning_error;
use crate::error::{Error, Result};
use crate::operators::changelog;
use crate::operators::filter::Filter;
use crate::operators::from_changelog::FromChangelog;
use crate::operators::project::Project;
use crate::operators::union::Union;
use optimize::optimize;
pub use output::{cast_to, reorder};
use provider::{Provider, StreamTable};
use refuse::{refuse_unsupported, refused};
pub use row_time::ROW_TIME;

/// Plans queries of one text against a catalog.
pub struct Planner<'a> {
    source: Source<'a>,
    provider: Provider<'a>,
    /// The interval of EMIT EVERY, until the aggregate that it belongs to is planned.
    emit_every: Cell<Option<i64>>,
}

impl<'a> Planner<'a> {
    /// A planner for `source`.
    pub fn new(source: Source<'a>, catalog: &'a Catalog, functions: &'a Functions) -> Self {
        Self { source, provider: Provider { catalog, functions }, emit_every: Cell::new(None) }
    }

    fn to_rel(&self) -> SqlToRel<'_, Provider<'a>> {
        let options = ParserOptions::new().with_map_string_types_to_utf8view(false).with_collect_spans(true);
        SqlToRel::new_with_options(&self.provider, options)
    }

    /// A view's logical plan.
    pub fn view(&self, mut query: Query) -> Result<LogicalPlan> {
        let place = place_of(&query);
        let spelled = spelling::here(self.source, &mut query).and_then(|()| as_of::mark(&mut query));
        spelled.map_err(|e| self.source.locate(e, place))?;
        let plan = self.to_rel().sql_statement_to_plan(ast::Statement::Query(Box::new(query)));
        let plan = plan.and_then(unnest_from::over_its_rows);
        plan.and_then(|plan| row_time::resolve(self.provider.catalog, plan)).map_err(|e| self.error(e, place))
    }

    /// A query's operators. `emit_every`: its results are shown so often, in nanoseconds of event time, as changes.
    pub fn query(&self, query: Query, emit_every: Option<i64>) -> Result<Plan> {
        let place = place_of(&query);
        self.emit_every.set(emit_every);
        let plan = self.view(query)?;
        let plan = optimize(plan, self.provider.functions).map_err(|e| self.error(e, place))?;
        let plan = self.convert(&plan).and_then(|plan| self.refuse_lookups(&plan).map(|()| plan));
        let plan = plan.and_then(|plan| match self.emit_every.take() {
            None => Ok(plan),
            Some(_) => Err(refused_emit()),
        });
        plan.map_err(|e| self.source.locate(e, place))
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

    fn expression(&self, schema: &SchemaRef, e: ast::Expr, place: Option<Place>) -> Result<Arc<dyn PhysicalExpr>> {
        let place = place_of(&e).or(place);
        let (e, schema) = self.over_columns(schema, e, place)?;
        physical(&e, &schema).map_err(|e| self.source.locate(e, place))
    }

    /// An expression over some columns, coerced and simplified.
    pub fn over_columns(
        &self,
        schema: &SchemaRef,
        mut e: ast::Expr,
        place: Option<Place>,
    ) -> Result<(Expr, DFSchemaRef)> {
        let place = place_of(&e).or(place);
        spelling::here(self.source, &mut e).map_err(|e| self.source.locate(e, place))?;
        let plan = (|| {
            let source: Arc<dyn TableSource> = Arc::new(StreamTable { schema: schema.clone(), view: None });
            let scan = LogicalPlanBuilder::scan("t", source, None)?.build()?;
            let df_schema = DFSchema::try_from(schema.clone())?;
            let e = self.to_rel().sql_to_expr(e, &df_schema, &mut PlannerContext::new())?;
            let e = e.alias("e");
            let unqualified = LogicalPlanBuilder::from(scan).project([e])?.build()?;
            let plan = self.provider.functions.analyzer().execute_and_check(
                unqualified,
                &self.provider.functions.options,
                |_, _| {},
            )?;
            // Some functions exist only until they are simplified; no rule that moves columns may run here.
            let optimizer = Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]);
            optimizer.optimize(plan, &OptimizerContext::new(), |_, _| {})
        })()
        .map_err(|e| self.error(e, place))?;
        match &plan {
            LogicalPlan::Projection(p) => match p.expr.first() {
                Some(e) => Ok((e.clone().unalias(), p.input.schema().clone())),
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
                let schema = Arc::new(all.project(&columns)?);
                match self.provider.catalog.tables.get(&table) {
                    Some(changed) if changed.changelog => {
                        let envelope = changelog::envelope(&changed.schema);
                        let changes = (0..envelope.fields().len()).collect();
                        let scan = Plan::Scan { table, schema: envelope, columns: changes };
                        Ok(scan.over(FromChangelog { columns, schema }))
                    }
                    _ => Ok(Plan::Scan { table, schema, columns }),
                }
            }
            LogicalPlan::Projection(p) => {
                for e in &p.expr {
                    refuse_unsupported(e)?;
                }
                let expressions = p.expr.iter().map(|e| physical(e, p.input.schema())).collect::<Result<Vec<_>>>()?;
                let first = over::filter_on_over(&p.input).map(|f| self.filtered_over(f, over::reads_last(p)));
                let input = match first.transpose()?.flatten() {
                    Some(first) => first,
                    None => self.convert(&p.input)?,
                };
                Ok(input.over(Project { expressions, schema: arrow(&p.schema) }))
            }
            LogicalPlan::Filter(f) => {
                if let Some(first) = self.filtered_over(f, true)? {
                    return Ok(first);
                }
                refuse_unsupported(&f.predicate)?;
                let predicate = physical(&f.predicate, f.input.schema())?;
                Ok(self.convert(&f.input)?.over(Filter { predicate, schema: arrow(f.input.schema()) }))
            }
            LogicalPlan::Union(u) => {
                let inputs = u.inputs.iter().map(|i| self.convert(i)).collect::<Result<Vec<_>>>()?;
                Ok(Plan::of(Union { schema: arrow(&u.schema), inputs: inputs.len() }, inputs))
            }
            LogicalPlan::Aggregate(a) => self.aggregate(a),
            LogicalPlan::Join(j) => self.join(j),
            LogicalPlan::Extension(_) => self.window_table(plan),
            LogicalPlan::Window(w) => self.over(w),
            LogicalPlan::Unnest(u) => self.unnest(u),
            LogicalPlan::Sort(s) => self.sort(s),
            LogicalPlan::Limit(l) => self.limit(l),
            other => Err(refused(other)),
        }
    }
}

/// What cannot be shown early.
fn refused_emit() -> Error {
    join::refusal(
        "EMIT EVERY is for a query whose result is one GROUP BY",
        "leave it out, or write the GROUP BY in an INSERT INTO of its own",
    )
}

fn arrow(schema: &DFSchemaRef) -> SchemaRef {
    // Nullability of derived columns is not always exact in a logical plan; nothing here relies on it.
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn physical(e: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(create_physical_expr(e, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?)
}
