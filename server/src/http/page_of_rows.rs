//! Pages of an answer. The cursor names the last row that was read, not a number: rows that are added before it since shift
//! nothing.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use millstream::QueryResult;
use sha2::{Digest, Sha256};

/// Some rows, and where the next ones begin.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub rows: QueryResult,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// The rows after `cursor`, `limit` at most.
///
/// *Errors*: the row that the cursor names is no longer there.
pub fn page(result: &QueryResult, limit: Option<usize>, cursor: Option<&str>) -> Result<Page, String> {
    let total: usize = result.batches.iter().map(RecordBatch::num_rows).sum();
    let first = match cursor {
        None => 0,
        Some(cursor) => find(result, cursor)? + 1,
    };
    let count = limit.unwrap_or(total).min(total.saturating_sub(first));
    let batches = slice(&result.batches, first, count);
    let next = if first + count < total && count > 0 { keys(result, first + count - 1, 1)?.pop() } else { None };
    Ok(Page { rows: QueryResult { schema: result.schema.clone(), batches, truncated: result.truncated }, next })
}

fn slice(batches: &[RecordBatch], mut first: usize, mut count: usize) -> Vec<RecordBatch> {
    let mut slices = Vec::new();
    for batch in batches {
        let start = first.min(batch.num_rows());
        let rows = count.min(batch.num_rows() - start);
        if rows > 0 {
            slices.push(batch.slice(start, rows));
        }
        first -= start;
        count -= rows;
    }
    slices
}

fn find(result: &QueryResult, cursor: &str) -> Result<usize, String> {
    let total = result.batches.iter().map(RecordBatch::num_rows).sum();
    let place = keys(result, 0, total)?.iter().position(|key| key == cursor);
    place.ok_or_else(|| "the cursor's row is no longer in the answer; ask again without `cursor`".to_string())
}

/// A name for each of some rows: what they are about (texts and times), not how much.
fn keys(result: &QueryResult, first: usize, count: usize) -> Result<Vec<String>, String> {
    let mut keys = Vec::with_capacity(count);
    for batch in slice(&result.batches, first, count) {
        let named = batch
            .columns()
            .iter()
            .filter(|column| !matches!(column.data_type(), DataType::Float64 | DataType::Boolean));
        let texts = named.map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|e| e.to_string())?;
        for row in 0..batch.num_rows() {
            let mut hash = Sha256::new();
            for text in &texts {
                let text = text.as_string::<i32>();
                hash.update(if text.is_null(row) { "\u{1}" } else { text.value(row) });
                hash.update("\0");
            }
            keys.push(hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect());
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use std::sync::Arc;

    fn result(names: &[&str]) -> QueryResult {
        let column = |rows: &[&str]| Arc::new(StringArray::from(rows.to_vec())) as ArrayRef;
        let values = |n: usize| Arc::new(Float64Array::from(vec![0.5; n])) as ArrayRef;
        let batch =
            |rows: &[&str]| RecordBatch::try_from_iter([("name", column(rows)), ("v", values(rows.len()))]).unwrap();
        let (a, b) = names.split_at(names.len() / 2);
        QueryResult { schema: batch(a).schema(), batches: vec![batch(a), batch(b)], truncated: false }
    }

    fn names(page: &Page) -> Vec<String> {
        let texts = page.rows.batches.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().flatten());
        texts.map(str::to_string).collect()
    }

    #[test]
    fn pages_follow_each_other_though_rows_are_added_before() {
        let one = page(&result(&["b", "c", "d", "e"]), Some(3), None).unwrap();
        assert_eq!(names(&one), ["b", "c", "d"]);
        let two = page(&result(&["a", "b", "c", "d", "e"]), Some(3), one.next.as_deref()).unwrap();
        assert_eq!((names(&two), two.next), (vec!["e".to_string()], None));
        let gone = page(&result(&["b", "e"]), Some(3), one.next.as_deref()).unwrap_err();
        assert_eq!(gone, "the cursor's row is no longer in the answer; ask again without `cursor`");
        assert_eq!(names(&page(&result(&["b", "c"]), None, None).unwrap()).len(), 2);
    }
}
