//! Window table functions: `FROM tumble(t, ts, INTERVAL '10 minutes')`, and Flink's spelling of them.
//!
//! A `GROUP BY window_start, window_end` over one is the same plan as `GROUP BY tumble(...)`; without it, rows are repeated
//! for their windows.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult, plan_err};
use datafusion::functions::core::get_field;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, Projection, UserDefinedLogicalNodeCore, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, ObjectName, TableFactor};

use super::time_column::{TimeColumn, time_column};
use super::windows::{is_window_function, window_kind};
use super::{Planner, arrow, physical};
use crate::error::{Error, Result, SqlError};
use crate::operators::assign::Assign;
use crate::operators::project::Project;
use crate::operators::window::WindowKind;
use crate::sql::duration;
use crate::sql::plan::Plan;

/// The columns that a window table function adds.
const COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// A window table function in a logical plan. *Shape*: the input's columns, then [`COLUMNS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowTable {
    input: LogicalPlan,
    name: String,
    /// In nanoseconds, as written.
    sizes: Vec<i64>,
    time: Expr,
    /// `PARTITION BY` of sessions.
    partition: Vec<Expr>,
    schema: DFSchemaRef,
}

impl WindowTable {
    fn new(input: LogicalPlan, name: String, sizes: Vec<i64>, time: Expr, partition: Vec<Expr>) -> DfResult<Self> {
        let own = COLUMNS
            .iter()
            .map(|n| (None, Arc::new(Field::new(*n, DataType::Timestamp(TimeUnit::Nanosecond, None), false))));
        let all = input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).chain(own).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(all, input.schema().metadata().clone())?);
        Ok(Self { input, name, sizes, time, partition, schema })
    }
}

impl Hash for WindowTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.name, &self.sizes, &self.time, &self.partition).hash(state);
    }
}

impl PartialOrd for WindowTable {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self == other).then_some(std::cmp::Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowTable {
    fn name(&self) -> &str {
        "WindowTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [&self.time].into_iter().chain(&self.partition).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        COLUMNS.iter().map(ToString::to_string).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowTable: {}", self.name)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let (Some(input), false) = (inputs.pop(), exprs.is_empty()) else {
            return plan_err!("a window table function lost its input");
        };
        let time = exprs.remove(0);
        Self::new(input, self.name.clone(), self.sizes.clone(), time, exprs)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|i| *i < own).collect()])
    }
}

/// Plans window table functions in a FROM.
#[derive(Debug)]
pub(super) struct WindowTables;

impl RelationPlanner for WindowTables {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let name = name.to_string().to_lowercase();
        if !is_window_function(&name) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let alias = alias.clone();
        let mut arguments = Vec::new();
        for a in &args.args {
            match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => arguments.push(e.clone()),
                other => return plan_err!("{name}: '{other}' is not allowed here"),
            }
        }
        let mut arguments = arguments.into_iter().peekable();
        let Some(input) = arguments.next().and_then(|e| table_of(e, &relation)) else {
            return plan_err!("{name} takes a table first: {}", form(&name));
        };
        let input = context.plan(input)?;
        let schema = input.schema().clone();
        let mut partition = Vec::new();
        if let Some(ast::Expr::Array(list)) = arguments.next_if(|e| matches!(e, ast::Expr::Array(_))) {
            for e in list.elem {
                partition.push(context.sql_to_expr(e, &schema)?);
            }
        }
        let Some(time) = arguments.next() else { return plan_err!("{name} takes a time column: {}", form(&name)) };
        let time = context.sql_to_expr(time, &schema)?;
        let mut sizes = Vec::new();
        for e in arguments {
            match duration::of_expression(&e) {
                Some(n) => sizes.push(n),
                None => return plan_err!("{name} takes literal intervals without months: {}", form(&name)),
            }
        }
        if let Err(Error::Bug(_)) = window_kind(&name, &sizes) {
            return plan_err!("{name} takes other arguments: {}", form(&name));
        }
        let node = Arc::new(WindowTable::new(input, name, sizes, time, partition)?);
        let plan = LogicalPlan::Extension(Extension { node });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn form(name: &str) -> &'static str {
    match name {
        "hop" => "hop(table, time column, slide, width)",
        "cumulate" => "cumulate(table, time column, step, width)",
        "session" => "session(table PARTITION BY keys, time column, gap)",
        _ => "tumble(table, time column, width)",
    }
}

/// The table, or the subquery, that an argument names.
fn table_of(e: ast::Expr, like: &TableFactor) -> Option<TableFactor> {
    let idents = match e {
        ast::Expr::Identifier(i) => vec![i],
        ast::Expr::CompoundIdentifier(all) => all,
        ast::Expr::Subquery(subquery) => {
            return Some(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None });
        }
        _ => return None,
    };
    let mut table = like.clone();
    if let TableFactor::Table { name, alias, args, .. } = &mut table {
        *name = ObjectName::from(idents);
        (*alias, *args) = (None, None);
    }
    Some(table)
}

fn node(plan: &LogicalPlan) -> Option<&WindowTable> {
    match plan {
        LogicalPlan::Extension(e) => e.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// What an output column of the node is.
pub(super) fn of_output(plan: &LogicalPlan, index: usize) -> Option<TimeColumn> {
    let own = node(plan)?.input.schema().fields().len();
    match index.checked_sub(own)? {
        0 => Some(TimeColumn::Start),
        _ => Some(TimeColumn::End),
    }
}

/// The window column that an expression is, through names and projections, and the node it is of.
fn trace<'p>(plan: &'p LogicalPlan, e: &Expr) -> Option<(&'p WindowTable, usize)> {
    let column = match e {
        Expr::Alias(a) => return trace(plan, &a.expr),
        Expr::Column(c) => plan.schema().maybe_index_of_column(c)?,
        _ => return None,
    };
    match plan {
        LogicalPlan::Projection(p) => trace(&p.input, p.expr.get(column)?),
        LogicalPlan::SubqueryAlias(s) => {
            let (q, f) = s.input.schema().qualified_field(column);
            trace(&s.input, &Expr::Column(Column::from((q, f))))
        }
        LogicalPlan::Filter(f) => trace(&f.input, e),
        other => {
            let node = node(other)?;
            Some((node, column.checked_sub(node.input.schema().fields().len())?))
        }
    }
}

/// Whether an expression computes with a window column, rather than being one.
fn computes_with_window(plan: &LogicalPlan, e: &Expr) -> bool {
    trace(plan, e).is_none() && e.column_refs().iter().any(|c| trace(plan, &Expr::Column((*c).clone())).is_some())
}

/// Whether anything on the way down to the node computes with a window column.
fn is_used_below(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => {
            p.expr.iter().any(|e| computes_with_window(&p.input, e)) || is_used_below(&p.input)
        }
        LogicalPlan::SubqueryAlias(s) => is_used_below(&s.input),
        LogicalPlan::Filter(f) => computes_with_window(&f.input, &f.predicate) || is_used_below(&f.input),
        _ => false,
    }
}

impl Planner<'_> {
    /// Rows repeated for their windows.
    pub(super) fn window_table(&self, plan: &LogicalPlan) -> Result<Plan> {
        let Some(node) = node(plan) else { return Err(super::refuse::refused(plan)) };
        let windows = match self.window_of(node)? {
            WindowKind::Aligned(windows) => windows,
            WindowKind::Session(_) => {
                return Err(Error::Query(SqlError {
                    message: "the rows of a session have no window before it has ended".into(),
                    fix: Some("GROUP BY window_start, window_end and the columns of its PARTITION BY".into()),
                    ..SqlError::default()
                }));
            }
        };
        let input = self.convert(&node.input)?;
        if input.properties().updating {
            return Err(Error::Query(SqlError {
                message: "a window over rows that are taken back again is not supported".into(),
                fix: Some("window the input first, then aggregate or join its results".into()),
                ..SqlError::default()
            }));
        }
        Ok(input.over(Assign { windows, schema: arrow(&node.schema) }))
    }

    fn window_of(&self, node: &WindowTable) -> Result<WindowKind> {
        let column = time_column(self.provider.catalog, &node.input, &node.time);
        if !matches!(column, Some(TimeColumn::EventTime | TimeColumn::End)) {
            return Err(Error::Query(SqlError {
                message: format!("{}: '{}' is not the event time of its table", node.name, node.time),
                fix: Some("name the column of WATERMARK FOR or event_time_field, unchanged".into()),
                ..SqlError::default()
            }));
        }
        window_kind(&node.name, &node.sizes)
    }

    /// A GROUP BY of the window columns of a window table function, as a GROUP BY of the window; `None` if it is not one.
    pub(super) fn grouped_window_table(&self, a: &Aggregate) -> Result<Option<Plan>> {
        let traced: Vec<Option<(&WindowTable, usize)>> = a.group_expr.iter().map(|e| trace(&a.input, e)).collect();
        let Some((node, _)) = traced.iter().flatten().next() else { return Ok(None) };
        let kind = self.window_of(node)?;
        let groups_by = |column: usize| traced.iter().flatten().any(|(_, c)| *c == column);
        let is_whole = groups_by(1) || groups_by(2);
        let session = matches!(kind, WindowKind::Session(_));
        let computes = a.group_expr.iter().chain(&a.aggr_expr).any(|e| computes_with_window(&a.input, e));
        let argument = a
            .aggr_expr
            .iter()
            .any(|e| e.column_refs().iter().any(|c| trace(&a.input, &Expr::Column((*c).clone())).is_some()));
        if !is_whole || computes || argument || is_used_below(&a.input) {
            return Ok(None);
        }
        let keys: Vec<&Expr> = a.group_expr.iter().zip(&traced).filter(|(_, t)| t.is_none()).map(|(e, _)| e).collect();
        if session && !same_names(&keys, &node.partition) {
            return Err(Error::Query(SqlError {
                message: "a session is of the columns of its PARTITION BY, and GROUP BY has others".into(),
                fix: Some("write the same columns in PARTITION BY of session(...) and in GROUP BY".into()),
                ..SqlError::default()
            }));
        }
        let input = without_windows(&a.input)?;
        let Some(function) = self.provider.functions.scalar(&node.name) else {
            return Err(Error::Bug(format!("no window function {}", node.name)));
        };
        let interval = |n: &i64| lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, *n))));
        let window = function.call(node.sizes.iter().map(interval).collect()).alias("window");
        let groups = [window].into_iter().chain(keys.into_iter().cloned()).collect();
        let grouped = Aggregate::try_new(Arc::new(input), groups, a.aggr_expr.clone())?;
        let plan = self.aggregate(&grouped)?;
        let schema = grouped.schema.as_ref();
        let column = |i: usize| Expr::Column(Column::from(schema.qualified_field(i)));
        let part = |name: &str| get_field().call(vec![column(0), lit(name)]);
        let nanosecond = interval(&1);
        let mut key = 0;
        let mut expressions: Vec<Expr> = Vec::new();
        for t in &traced {
            expressions.push(match t {
                Some((_, 0)) => part("start"),
                Some((_, 1)) => part("end"),
                Some(_) => part("end") - nanosecond.clone(),
                None => {
                    key += 1;
                    column(key)
                }
            });
        }
        expressions.extend((0..a.aggr_expr.len()).map(|n| column(key + 1 + n)));
        let expressions = expressions.iter().map(|e| physical(e, schema)).collect::<Result<Vec<_>>>()?;
        Ok(Some(plan.over(Project { expressions, schema: arrow(&a.schema) })))
    }
}

/// Whether two lists name the same columns, in any order.
fn same_names(a: &[&Expr], b: &[Expr]) -> bool {
    let names = |e: &Expr| e.column_refs().iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let mut a: Vec<_> = a.iter().map(|e| names(e)).collect();
    let mut b: Vec<_> = b.iter().map(names).collect();
    a.sort();
    b.sort();
    a == b
}

/// The plan with nulls in place of the window columns, which nobody reads.
fn without_windows(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let none = || lit(ScalarValue::TimestampNanosecond(None, None));
    let replaced = plan.clone().transform_down(|plan| {
        let Some(node) = node(&plan) else { return Ok(Transformed::no(plan)) };
        let own = node.input.schema().iter().map(|(q, f)| Expr::Column(Column::from((q, f))));
        let all = own.chain(COLUMNS.iter().map(|n| none().alias(*n))).collect();
        let projection = Projection::try_new_with_schema(all, Arc::new(node.input.clone()), node.schema.clone())?;
        Ok(Transformed::new(
            LogicalPlan::Projection(projection),
            true,
            datafusion::common::tree_node::TreeNodeRecursion::Jump,
        ))
    })?;
    Ok(replaced.data)
}
