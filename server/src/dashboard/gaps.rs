//! Bars over time stand one beside the other: a period of which a metric says nothing keeps its place, or a reader would take Friday
//! and Monday for neighbours.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Schema, TimeUnit, TimestampNanosecondType};
use chrono_tz::Tz;
use millstream::sql::calendar::{Calendar, Interval};
use millstream::time::EventTime;
use millstream::{Error, Result};

/// The rows, and one without numbers for each period that has none, from the first that has until before `until`.
///
/// *Shape*: `time` holds starts of periods of `interval` in `zone`, as UTC; rows come back in their order. Names in a row that was added
/// are those of the first row, so that it makes no series of its own.
pub fn with_gaps(
    rows: &RecordBatch,
    time: &str,
    interval: Interval,
    zone: Tz,
    until: EventTime,
) -> Result<RecordBatch> {
    let place = rows.schema().index_of(time)?;
    let column = rows.column(place);
    if interval == Interval::All || !matches!(column.data_type(), DataType::Timestamp(..)) || column.null_count() > 0 {
        return Ok(rows.clone());
    }
    let nanos = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
    let times = nanos.as_primitive::<TimestampNanosecondType>().values().to_vec();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return Ok(rows.clone()) };
    let known: HashSet<EventTime> = times.iter().copied().collect();
    let starts = Calendar::new(zone).starts(*first, until.max(*last), interval).map_err(Error::sql)?;
    let missing = starts.into_iter().filter(|start| !known.contains(start)).map(|start| (start, None));
    let mut all: Vec<(EventTime, Option<u32>)> = times.iter().copied().zip((0..).map(Some)).chain(missing).collect();
    if all.len() == times.len() {
        return Ok(rows.clone());
    }
    all.sort_by_key(|(start, _)| *start);
    let values: UInt32Array = all.iter().map(|(_, row)| *row).collect();
    let names: UInt32Array = all.iter().map(|(_, row)| Some(row.unwrap_or(0))).collect();
    let starts = TimestampNanosecondArray::from_iter_values(all.iter().map(|(start, _)| *start));
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (i, (field, column)) in rows.schema().fields().iter().zip(rows.columns()).enumerate() {
        let numbers = column.data_type().is_numeric();
        columns.push(match i {
            i if i == place => cast(&starts, field.data_type())?,
            _ => take(column, if numbers { &values } else { &names }, None)?,
        });
        fields.push(field.as_ref().clone().with_nullable(true));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use millstream::time::{DAY, show};

    use super::*;

    #[test]
    fn a_period_without_rows_keeps_its_place() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let mut calendar = Calendar::new(zone);
        // Days around the change to summer time, 2026-03-29: one of them has 23 hours.
        let day = |calendar: &mut Calendar, day: i64| calendar.day_start(20_540 + day);
        let times: Vec<i64> = [0, 1, 4].map(|n| day(&mut calendar, n)).to_vec();
        let rows = RecordBatch::try_from_iter([
            ("period_start", Arc::new(TimestampNanosecondArray::from(times)) as ArrayRef),
            ("breakdown", Arc::new(StringArray::from(vec!["team"; 3]))),
            ("users", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ])
        .unwrap();
        let until = day(&mut calendar, 5) + DAY / 2;
        let filled = with_gaps(&rows, "period_start", Interval::Day, zone, until).unwrap();
        let users: Vec<_> = filled.column(2).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(users, [Some(1), Some(2), None, None, Some(3), None], "two days between, and one that is open");
        assert!(filled.column(1).as_string::<i32>().iter().all(|name| name == Some("team")));
        let starts = filled.column(0).as_primitive::<TimestampNanosecondType>().values().to_vec();
        assert_eq!(
            starts.iter().map(|at| show(*at)).collect::<Vec<_>>()[2..4],
            [show(day(&mut calendar, 2)), show(day(&mut calendar, 3))]
        );
        // Where nothing is missing nothing is added.
        let whole = with_gaps(&filled, "period_start", Interval::Day, zone, 0).unwrap();
        assert_eq!(whole, filled);
    }
}
