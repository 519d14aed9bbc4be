//! Queries whose rows are handed out as they come: they read no further ahead than who takes the rows needs them.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

/// In the session of such a query: its scans decode no table into memory, for it reads a table once, and is to need no more memory for a
/// large one than for a small one.
#[derive(Debug)]
pub(super) struct Streamed;

/// Gives a query without a greatest number of rows one thread if they only pass through. Who takes them is the slower one: a second
/// thread would hold rows that wait.
pub(super) fn without_haste(state: &mut SessionState, plan: &LogicalPlan, rows_max: Option<usize>) {
    if rows_max.is_none() && passes_on(plan) {
        state.config_mut().options_mut().execution.target_partitions = 1;
        state.config_mut().set_extension(Arc::new(Streamed));
    }
}

/// Whether the rows come as they are stored, with no more than some left out: nothing is gathered on the way.
fn passes_on(plan: &LogicalPlan) -> bool {
    use LogicalPlan::{Filter, Limit, Projection, SubqueryAlias, TableScan};
    match plan {
        TableScan(_) => true,
        Filter(_) | Limit(_) | Projection(_) | SubqueryAlias(_) => plan.inputs().into_iter().all(passes_on),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use futures::StreamExt;

    use super::super::{Batch, Functions, QueryLimits};
    use crate::lake::Lake;
    use crate::time::SystemClock;

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_that_are_handed_on_are_not_kept_and_come_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let lake = Lake::open(&dir.path().display().to_string(), &BTreeMap::new()).await.unwrap();
        let numbers = |day: i32| {
            let n = Int64Array::from_iter_values((0..100_000).map(|n| i64::from(day) * 1_000_000 + n));
            let day = Arc::new(Date32Array::from(vec![day; 100_000])) as ArrayRef;
            let columns = [("n", Arc::new(n) as ArrayRef, true), ("day", day, true)];
            RecordBatch::try_from_iter_with_nullable(columns).unwrap()
        };
        let table = lake.table("numbers", numbers(0).schema()).await.unwrap();
        for day in 0..3 {
            table.append(&[numbers(day)]).await.unwrap();
        }
        let batch = Batch::new(lake, Arc::new(SystemClock), Functions::default()).unwrap();
        let (none, limits) = (BTreeMap::new(), QueryLimits::default());
        let sql = "SELECT n FROM (SELECT * FROM numbers WHERE n % 2 = 0) AS even";
        let mut stream = batch.query_stream(sql, &none, &limits).await.unwrap();
        let mut seen: Vec<i64> = Vec::new();
        while let Some(piece) = stream.next().await {
            seen.extend(piece.unwrap().column(0).as_primitive::<Int64Type>().values());
        }
        let days: Vec<i64> =
            seen.chunk_by(|a, b| a / 1_000_000 == b / 1_000_000).map(|day| day[0] / 1_000_000).collect();
        assert_eq!((seen.len(), days.len()), (150_000, 3), "one file after the other: {days:?}");
        assert!(seen.chunk_by(|a, b| a / 1_000_000 == b / 1_000_000).all(|day| day.is_sorted()));
        assert_eq!(batch.work().files_opened, 3);
        // What is added up is kept for the next who asks.
        for _ in 0..2 {
            batch.query("SELECT sum(n) FROM numbers", &none, &limits).await.unwrap();
            assert_eq!(batch.work().files_opened, 6);
        }
        // With little memory nothing is decoded beforehand either.
        let little = QueryLimits { memory_bytes_max: 1 << 20, ..QueryLimits::default() };
        batch.query("SELECT sum(n) FROM numbers", &none, &little).await.unwrap();
        assert_eq!(batch.work().files_opened, 9);
    }
}
