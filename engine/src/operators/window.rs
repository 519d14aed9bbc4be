//! The arithmetic of tumbling and hopping windows, and their slices.
//!
//! Windows are half-open, `[start, end)`, aligned to the epoch in UTC. A slice is the greatest common divisor of width
//! and slide, so that every window is a whole number of slices; a row is aggregated once, into its slice.
//! (Source: "Cutty: Aggregate Sharing for User-Defined Windows", CIKM 2016, and the panes of Li et al., SIGMOD Record 2005.)

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// Width and slide, in nanoseconds, both positive. Tumbling is `slide == width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Windows {
    /// How long a window is.
    pub width: i64,
    /// The distance between the starts of two windows.
    pub slide: i64,
}

impl Windows {
    /// The length of a slice.
    pub fn slice(&self) -> i64 {
        let (mut a, mut b) = (self.width, self.slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// The end of the earliest window that contains the slice starting at `slice_start` and ends after `after`;
    /// `None` if every such window ends at or before `after`, or if the slice lies in a gap between windows.
    pub fn first_end_after(&self, slice_start: i64, after: i64) -> Option<i64> {
        // Windows containing the slice start in (slice_start + slice - width - 1, slice_start].
        let earliest = slice_start.saturating_add(self.slice()).saturating_sub(self.width);
        let mut start = earliest.div_euclid(self.slide) * self.slide;
        if start < earliest {
            start += self.slide;
        }
        if start.saturating_add(self.width) <= after {
            // Jump straight to the first window that ends after `after`.
            let behind = after - (start + self.width);
            start += (behind / self.slide + 1) * self.slide;
        }
        (start <= slice_start).then(|| start + self.width)
    }

    /// The ends of all windows that contain the slice and end at or after `from`, ascending.
    pub fn ends(&self, slice_start: i64, from: i64) -> impl Iterator<Item = i64> + '_ {
        let first = self.first_end_after(slice_start, from.saturating_sub(1));
        let last = self.last_end(slice_start);
        std::iter::successors(first, move |end| Some(end + self.slide)).take_while(move |end| *end <= last)
    }

    /// The end of the last window that contains the slice; the slice is not needed after it.
    pub fn last_end(&self, slice_start: i64) -> i64 {
        slice_start.div_euclid(self.slide) * self.slide + self.width
    }
}

/// The type of a window value: `{start, end}`, timestamps without zone, UTC.
pub fn window_type() -> DataType {
    DataType::Struct(window_fields())
}

fn window_fields() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
    Fields::from(vec![Field::new("start", time.clone(), false), Field::new("end", time, false)])
}

/// A column of window values.
pub fn window_column(starts: Vec<i64>, ends: Vec<i64>) -> ArrayRef {
    let columns: Vec<ArrayRef> =
        vec![Arc::new(TimestampNanosecondArray::from(starts)), Arc::new(TimestampNanosecondArray::from(ends))];
    Arc::new(StructArray::new(window_fields(), columns, None))
}

/// The event time of a window's result: the last nanosecond inside it.
pub fn result_times(ends: &[i64]) -> Int64Array {
    ends.iter().map(|e| e - 1).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(w: &Windows, slice: i64) -> Vec<i64> {
        (-200..200)
            .map(|k| k * w.slide)
            .filter(|s| *s <= slice && slice + w.slice() <= s + w.width)
            .map(|s| s + w.width)
            .collect()
    }

    #[test]
    fn ends_agree_with_trying_every_window() {
        for (width, slide) in [(10, 10), (60, 10), (10, 4), (6, 9), (7, 3), (12, 8)] {
            let w = Windows { width, slide };
            for k in -30..30 {
                let slice = k * w.slice();
                let all = naive(&w, slice);
                assert_eq!(w.ends(slice, i64::MIN + 1).collect::<Vec<_>>(), all, "{w:?} {slice}");
                for after in slice - 30..slice + 30 {
                    assert_eq!(
                        w.first_end_after(slice, after),
                        all.iter().copied().find(|e| *e > after),
                        "{w:?} {slice} {after}"
                    );
                }
                if let Some(last) = all.last() {
                    assert_eq!(w.last_end(slice), *last);
                }
            }
        }
    }
}
