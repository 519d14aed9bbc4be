//! `unnest`.

use datafusion::common::NullHandling;
use datafusion::logical_expr;

use super::{Planner, arrow};
use crate::error::{Error, Result, SqlError};
use crate::operators::unnest::{Column, Unnest};
use crate::sql::plan::Plan;

impl Planner<'_> {
    pub(super) fn unnest(&self, u: &logical_expr::Unnest) -> Result<Plan> {
        let input = self.convert(&u.input)?;
        let mut columns = vec![Column::Keep; input.schema().fields().len()];
        for (index, list) in &u.list_type_columns {
            let Some(column) = columns.get_mut(*index) else { continue };
            if *column != Column::Keep {
                return Err(refused(
                    "unnests one list at several depths",
                    "unnest each depth in a subquery of its own",
                ));
            }
            *column = Column::List(list.depth);
        }
        let depths: Vec<usize> = u.list_type_columns.iter().map(|(_, list)| list.depth).collect();
        if depths.len() > 1 && depths.iter().any(|d| *d > 1) {
            return Err(refused(
                "unnests lists in lists beside other lists",
                "unnest the outer list in a subquery, then the inner one",
            ));
        }
        for index in &u.struct_type_columns {
            columns.iter_mut().skip(*index).take(1).for_each(|c| *c = Column::Struct);
        }
        if u.options.null_handling != NullHandling::Drop {
            return Err(Error::Bug(format!("unnest with {:?}", u.options.null_handling)));
        }
        Ok(input.over(Unnest { columns, schema: arrow(&u.schema) }))
    }
}

fn refused(what: &str, fix: &str) -> Error {
    Error::Query(SqlError {
        message: format!("a SELECT that {what} is not supported"),
        fix: Some(fix.into()),
        ..SqlError::default()
    })
}
