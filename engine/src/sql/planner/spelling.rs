//! What other engines write, as it is written here, before DataFusion plans a query; and what would be dropped without a word.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, Ident, ObjectName, ObjectNamePart, Query, Select, Subscript, TableAliasColumnDef,
    TableFactor, Value, VisitMut, VisitorMut,
};

use super::join::refusal;
use super::row_values;
use crate::error::{Error, Result};
use crate::sql::functions::WINDOW_FUNCTIONS;
use crate::sql::parse::{Source, place_of_name};

/// Functions that would give something else at each replay.
const NOT_OF_THE_LOG: [&str; 12] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "today",
    "localtime",
    "localtimestamp",
    "random",
    "uuid",
    "gen_random_uuid",
    "input_file_name",
    "file_row_index",
];

/// Rewrites a query or an expression; refuses by name what a pipeline cannot hold.
pub(super) fn here(source: Source<'_>, node: &mut impl VisitMut) -> Result<()> {
    match node.visit(&mut Spelling { source }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Spelling<'a> {
    source: Source<'a>,
}

impl VisitorMut for Spelling<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let dropped = [
            (!query.locks.is_empty() || query.for_clause.is_some(), "FOR UPDATE, SHARE, XML or JSON", "leave it out"),
            (query.settings.is_some(), "SETTINGS", "leave it out"),
            (query.format_clause.is_some(), "FORMAT", "write the format in the WITH of the table"),
            (query.fetch.is_some(), "FETCH", "write LIMIT"),
        ];
        without(&dropped)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        let dropped = [
            (select.prewhere.is_some(), "PREWHERE", "write WHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY", "unroll it into the steps you need"),
            (select.value_table_mode.is_some(), "SELECT AS STRUCT", "write struct(...) or named_struct(...)"),
            (select.top.is_some(), "TOP", "write LIMIT, or row_number() OVER (PARTITION BY ... ORDER BY ...) <= n"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW", "write CROSS JOIN UNNEST(list) AS u (item)"),
            (select.into.is_some(), "SELECT ... INTO", "write INSERT INTO table SELECT ..."),
        ];
        without(&dropped)?;
        or_break(select.selection.as_mut().map_or(Ok(()), row_values::in_condition))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            // The one column of `UNNEST(list) AS item` is `item`, as in PostgreSQL.
            TableFactor::UNNEST { alias: Some(alias), array_exprs, with_ordinality, .. } => {
                if *with_ordinality {
                    return ControlFlow::Break(Box::new(refusal(
                        "UNNEST ... WITH ORDINALITY is not supported in a pipeline",
                        "write SELECT unnest(list) AS item, unnest(generate_series(1, cardinality(list))) AS place FROM t",
                    )));
                }
                if alias.columns.is_empty() && array_exprs.len() == 1 {
                    alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
                }
                ControlFlow::Continue(())
            }
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                ControlFlow::Break(Box::new(refusal(
                    "TABLESAMPLE is not supported in a pipeline",
                    "keep rows by their key, such as WHERE id % 10 = 0: the same ones at each replay",
                )))
            }
            TableFactor::Table { with_hints, partitions, index_hints, .. } => {
                let hints = !with_hints.is_empty() || !index_hints.is_empty() || !partitions.is_empty();
                without(&[(hints, "a hint for a table", "leave it out")])
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, e: &mut Expr) -> ControlFlow<Self::Break> {
        or_break(row_values::in_value(e))?;
        let Expr::Function(function) = e else { return ControlFlow::Continue(()) };
        let Some(name) = function.name.0.last().and_then(|n| n.as_ident()) else { return ControlFlow::Continue(()) };
        let folded = name.value.to_lowercase();
        if NOT_OF_THE_LOG.contains(&folded.as_str()) {
            return ControlFlow::Break(Box::new(self.refused(&folded, name)));
        }
        if let Some((window, bound)) = folded.rsplit_once('_')
            && matches!(bound, "start" | "end")
            && WINDOW_FUNCTIONS.iter().any(|(known, _)| *known == window)
        {
            let (window, bound) = (Ident { value: window.into(), ..name.clone() }, bound.to_string());
            *e = bound_of(function.clone(), window, bound);
        }
        ControlFlow::Continue(())
    }
}

/// Refuses the first clause that is there: DataFusion would leave some of them out without a word.
fn without(clauses: &[(bool, &str, &str)]) -> ControlFlow<Box<Error>> {
    match clauses.iter().find(|(is_there, ..)| *is_there) {
        None => ControlFlow::Continue(()),
        Some((_, clause, fix)) => {
            ControlFlow::Break(Box::new(refusal(&format!("{clause} is not supported in a pipeline"), fix)))
        }
    }
}

fn or_break(result: Result<()>) -> ControlFlow<Box<Error>> {
    result.map_or_else(|e| ControlFlow::Break(Box::new(e)), ControlFlow::Continue)
}

impl Spelling<'_> {
    fn refused(&self, name: &str, at: &Ident) -> Error {
        let fix = match name {
            "random" | "uuid" | "gen_random_uuid" => "derive it from the row, such as md5(concat(id, ts)) or id % 10",
            _ => {
                "use the times of rows: a window, a join within an interval, or SET updating_ttl for how long rows count; \
                 row_time() is the event time, METADATA FROM 'received_at' the arrival"
            }
        };
        let message =
            format!("{name} would give something else at each replay, and a pipeline's result is of the log alone");
        self.source.error(place_of_name(at), message, Some(fix.into()))
    }
}

/// Flink's `TUMBLE_START(ts, size)` as `tumble(ts, size)['start']`.
fn bound_of(function: Function, window: Ident, bound: String) -> Expr {
    let function = Function { name: ObjectName(vec![ObjectNamePart::Identifier(window)]), ..function };
    let index = Expr::Value(Value::SingleQuotedString(bound).into());
    Expr::CompoundFieldAccess {
        root: Box::new(Expr::Function(function)),
        access_chain: vec![AccessExpr::Subscript(Subscript::Index { index })],
    }
}
