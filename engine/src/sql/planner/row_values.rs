//! Rows of values in `IN`, `=` and `<>`, in words that DataFusion plans.
//!
//! ```text
//! (a, b) = (c, d)                  =  a = c AND b = d
//! (a, b) IN ((1, 2), (3, 4))       =  a = 1 AND b = 2 OR a = 3 AND b = 4
//! (a, b) IN (SELECT x, y FROM s)   =  EXISTS (SELECT 1 FROM (SELECT x, y FROM s) AS r (c0, c1) WHERE c0 = a AND c1 = b)
//! ```
//!
//! The last holds where unknown is as good as false: in `WHERE`, under `AND` and `OR`. Elsewhere it is refused.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SetExpr,
    TableFactor, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::join::refusal;
use crate::error::{Error, Result};

/// Rewrites `IN` of a row and a subquery in a condition of which only true counts.
pub(super) fn in_condition(e: &mut Expr) -> Result<()> {
    match e {
        Expr::Nested(e) => in_condition(e),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            in_condition(left)?;
            in_condition(right)
        }
        Expr::InSubquery { expr, subquery, negated: false } => {
            let Some(values) = row(expr) else { return Ok(()) };
            *e = exists(&values, subquery)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Rewrites what compares rows of values, else; refuses what means something else here.
pub(super) fn in_value(e: &mut Expr) -> Result<()> {
    match e {
        Expr::InSubquery { expr, .. } if row(expr).is_some() => Err(refusal(
            "IN of a row of values and a subquery is a condition of WHERE, without NOT",
            "write EXISTS (SELECT 1 FROM b WHERE b.x = a.x AND b.y = a.y), or NOT EXISTS: there a null is equal to nothing",
        )),
        Expr::InList { expr, list, negated } => {
            let Some(values) = row(expr) else { return Ok(()) };
            let rows = list.iter().map(|row| equal(&values, row)).collect::<Result<Vec<_>>>()?;
            let found = tree(rows, &BinaryOperator::Or);
            *e = if *negated { not(found) } else { found };
            Ok(())
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq), right } => {
            let (Some(values), Some(_)) = (row(left), row(right)) else { return Ok(()) };
            let same = equal(&values, right)?;
            *e = if *op == BinaryOperator::NotEq { not(same) } else { same };
            Ok(())
        }
        _ => Ok(()),
    }
}

fn exists(values: &[Expr], subquery: &Query) -> Result<Expr> {
    let name = |n: usize| format!("__row_{n}");
    let names: Vec<String> = (0..values.len()).map(name).collect();
    // Parsed and filled in: as a literal, each of the many fields of a query would have to be named.
    let frame = format!("EXISTS (SELECT 1 FROM (SELECT 1) AS __row ({}) WHERE true)", names.join(", "));
    let parsed = Parser::new(&GenericDialect {}).try_with_sql(&frame).and_then(|mut parser| parser.parse_expr());
    let mut parsed = parsed.map_err(|e| Error::Bug(format!("{frame}: {e}")))?;
    let column = |n: usize| Expr::CompoundIdentifier(vec![Ident::new("__row"), Ident::new(name(n))]);
    let pairs = values.iter().enumerate().map(|(n, value)| binary(column(n), BinaryOperator::Eq, value.clone()));
    if let Expr::Exists { subquery: frame, .. } = &mut parsed
        && let SetExpr::Select(select) = frame.body.as_mut()
        && let Some(TableFactor::Derived { subquery: of, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        **of = subquery.clone();
        select.selection = Some(tree(pairs.collect(), &BinaryOperator::And));
    }
    Ok(parsed)
}

/// The values of `(a, b)` and `ROW(a, b)`.
fn row(e: &Expr) -> Option<Vec<Expr>> {
    match e {
        Expr::Nested(e) => row(e),
        Expr::Tuple(values) => Some(values.clone()),
        Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
            if name.to_string().eq_ignore_ascii_case("row") =>
        {
            let value = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
                _ => None,
            };
            list.args.iter().map(value).collect()
        }
        _ => None,
    }
}

/// Whether a row equals these values.
fn equal(values: &[Expr], other: &Expr) -> Result<Expr> {
    match row(other) {
        Some(row) if row.len() == values.len() => {
            let pairs = values.iter().cloned().zip(row).map(|(a, b)| binary(a, BinaryOperator::Eq, b));
            Ok(tree(pairs.collect(), &BinaryOperator::And))
        }
        _ => Err(refusal(
            &format!("a row of {} values is compared with {other}", values.len()),
            "give each row as many values, such as (a, b) IN ((1, 2), (3, 4))",
        )),
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

/// All under one operator, as flat as it gets: a long list must not be nested deeply.
fn tree(mut all: Vec<Expr>, op: &BinaryOperator) -> Expr {
    let half = all.len() / 2;
    if half == 0 {
        return all.pop().unwrap_or_else(|| Expr::Value(Value::Boolean(*op == BinaryOperator::And).into()));
    }
    let right = all.split_off(half);
    binary(tree(all, op), op.clone(), tree(right, op))
}

fn not(e: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(e) }
}
