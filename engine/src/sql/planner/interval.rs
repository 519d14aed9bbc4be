//! The bounds that a join's condition sets on how far apart the event times of two rows are.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, Operator};

use crate::sql::duration;

/// `left` times the left event time, plus `right` times the right one, plus `nanoseconds`.
#[derive(Debug, Clone, Copy)]
struct Linear {
    left: i64,
    right: i64,
    nanoseconds: i64,
}

impl Linear {
    fn plus(self, other: Self, sign: i64) -> Option<Self> {
        Some(Self {
            left: self.left + sign * other.left,
            right: self.right + sign * other.right,
            nanoseconds: self.nanoseconds.checked_add(other.nanoseconds.checked_mul(sign)?)?,
        })
    }
}

/// The least and the greatest difference, right event time less left one, in nanoseconds; `None` unless the condition
/// bounds both. `times`: the columns of each side that are event times.
pub(super) fn interval(j: &Join, times: &[Vec<usize>; 2]) -> Option<(i64, i64)> {
    let schemas = [j.left.schema(), j.right.schema()];
    let (mut lowest, mut highest) = (i64::MIN, i64::MAX);
    let mut bound = |l: &Expr, op: Operator, r: &Expr| {
        let difference = (|| linear(l, schemas, times)?.plus(linear(r, schemas, times)?, -1))();
        let Some(d) = difference else { return };
        // The difference is `right - left`; turned around, the comparison is too.
        let (op, n) = match (d.left, d.right) {
            (-1, 1) => (op, -d.nanoseconds),
            (1, -1) => (op.swap().unwrap_or(op), d.nanoseconds),
            _ => return,
        };
        match op {
            Operator::Eq => (lowest, highest) = (lowest.max(n), highest.min(n)),
            Operator::Gt | Operator::GtEq => lowest = lowest.max(n),
            Operator::Lt | Operator::LtEq => highest = highest.min(n),
            _ => {}
        }
    };
    for (l, r) in &j.on {
        bound(l, Operator::Eq, r);
    }
    for e in j.filter.iter().flat_map(split_conjunction) {
        match e {
            Expr::BinaryExpr(b) => bound(&b.left, b.op, &b.right),
            Expr::Between(b) if !b.negated => {
                bound(&b.expr, Operator::GtEq, &b.low);
                bound(&b.expr, Operator::LtEq, &b.high);
            }
            _ => {}
        }
    }
    (lowest > i64::MIN && highest < i64::MAX).then_some((lowest, highest))
}

/// Whether times and durations lose nothing as this type.
fn is_exact(t: &DataType) -> bool {
    let exact = [DataType::Timestamp(TimeUnit::Nanosecond, None), DataType::Duration(TimeUnit::Nanosecond)];
    exact.contains(t) || *t == DataType::Interval(IntervalUnit::MonthDayNano)
}

fn linear(e: &Expr, schemas: [&DFSchemaRef; 2], times: &[Vec<usize>; 2]) -> Option<Linear> {
    match e {
        Expr::Alias(a) => linear(&a.expr, schemas, times),
        Expr::Cast(c) if is_exact(c.field.data_type()) => linear(&c.expr, schemas, times),
        Expr::Column(c) => {
            let side = schemas.iter().position(|s| s.maybe_index_of_column(c).is_some())?;
            let index = schemas.get(side)?.maybe_index_of_column(c)?;
            times.get(side)?.contains(&index).then_some(Linear {
                left: i64::from(side == 0),
                right: i64::from(side == 1),
                nanoseconds: 0,
            })
        }
        Expr::Literal(v, _) => duration::of_scalar(v).map(|nanoseconds| Linear { left: 0, right: 0, nanoseconds }),
        Expr::BinaryExpr(b) => {
            let sign = match b.op {
                Operator::Plus => 1,
                Operator::Minus => -1,
                _ => return None,
            };
            linear(&b.left, schemas, times)?.plus(linear(&b.right, schemas, times)?, sign)
        }
        _ => None,
    }
}
