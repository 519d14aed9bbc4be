//! The arithmetic of tumbling and hopping windows, and their slices.
//!
//! Windows are half-open, `[start, end)`, aligned to the epoch in UTC. A slice is the greatest common divisor of width
//! and slide, so that every window is a whole number of slices; a row is aggregated once, into its slice.
//! (Source: "Cutty: Aggregate Sharing for User-Defined Windows", CIKM 2016, and the panes of Li et al., SIGMOD Record 2005.)

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// Windows of event time, in nanoseconds. Tumbling is `slide == width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash, serde::Serialize, serde::Deserialize)]
pub struct Windows {
    /// How long a window is, or a cumulating one becomes; positive.
    pub width: i64,
    /// The distance between the starts of two windows; between the ends of two cumulating ones. Positive.
    pub slide: i64,
    /// How far windows are moved from the epoch.
    pub offset: i64,
    /// Whether windows of one start grow by `slide` until they are `width` long; `width` is a multiple of `slide`.
    pub cumulating: bool,
}

/// Which windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub enum WindowKind {
    /// Tumbling or hopping.
    Aligned(Windows),
    /// Sessions with a gap, in nanoseconds.
    Session(i64),
}

impl std::fmt::Display for WindowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let w = match self {
            Self::Session(gap) => return write!(f, "session gap {}", show_duration(*gap)),
            Self::Aligned(w) => w,
        };
        match (w.cumulating, w.slide == w.width) {
            (true, _) => write!(f, "cumulate {} by {}", show_duration(w.width), show_duration(w.slide))?,
            (_, true) => write!(f, "tumble {}", show_duration(w.width))?,
            _ => write!(f, "hop {} every {}", show_duration(w.width), show_duration(w.slide))?,
        }
        if w.offset != 0 { write!(f, " offset {}", show_duration(w.offset)) } else { Ok(()) }
    }
}

impl Windows {
    /// Tumbling or hopping windows aligned to the epoch.
    pub fn new(width: i64, slide: i64) -> Self {
        Self { width, slide, offset: 0, cumulating: false }
    }

    /// The length of a slice.
    pub fn slice(&self) -> i64 {
        let (mut a, mut b) = (self.width, self.slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// The start of the slice that holds `time`.
    pub fn slice_of(&self, time: i64) -> i64 {
        self.floor(time, self.slice())
    }

    /// The greatest boundary at or before `time` of a grid of `step`.
    pub fn floor(&self, time: i64, step: i64) -> i64 {
        time.saturating_sub(self.offset).div_euclid(step) * step + self.offset
    }

    /// The start of the window that ends at `end`.
    pub fn start_of(&self, end: i64) -> i64 {
        if self.cumulating { self.floor(end - 1, self.width) } else { end - self.width }
    }

    /// The end of the earliest window that contains the slice starting at `slice_start` and ends after `after`;
    /// `None` if every such window ends at or before `after`, or if the slice lies in a gap between windows.
    pub fn first_end_after(&self, slice_start: i64, after: i64) -> Option<i64> {
        if self.cumulating {
            let end = slice_start.saturating_add(self.slide);
            let end = if end > after { end } else { self.floor(after, self.slide) + self.slide };
            return (end <= self.last_end(slice_start)).then_some(end);
        }
        // Windows containing the slice start in (slice_start + slice - width - 1, slice_start].
        let earliest = slice_start.saturating_add(self.slice()).saturating_sub(self.width);
        let mut start = self.floor(earliest, self.slide);
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
        self.floor(slice_start, if self.cumulating { self.width } else { self.slide }) + self.width
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

/// `90s`, `1500ms`: durations as logs and plans show them.
pub fn show_duration(nanoseconds: i64) -> String {
    for (unit, name) in [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ] {
        if nanoseconds % unit == 0 && nanoseconds != 0 {
            return format!("{}{name}", nanoseconds / unit);
        }
    }
    format!("{nanoseconds}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All windows near the slice that hold it, by their ends.
    fn naive(w: &Windows, slice: i64) -> Vec<i64> {
        let all = (-200..200).flat_map(|k| {
            let count = if w.cumulating { w.width / w.slide } else { 1 };
            (1..=count).map(move |n| match w.cumulating {
                true => (k * w.width + w.offset, k * w.width + w.offset + n * w.slide),
                false => (k * w.slide + w.offset, k * w.slide + w.offset + w.width),
            })
        });
        let mut ends: Vec<i64> =
            all.filter(|(start, end)| *start <= slice && slice + w.slice() <= *end).map(|(_, end)| end).collect();
        ends.sort_unstable();
        ends
    }

    #[test]
    fn ends_agree_with_trying_every_window() {
        let hops = [(10, 10, 0), (60, 10, 0), (10, 4, 0), (6, 9, 0), (7, 3, 0), (12, 8, 0), (10, 10, 3), (12, 8, -5)];
        let cumulating = [(12, 3, 0), (12, 12, 0), (10, 2, 1)];
        let all = hops.iter().map(|h| (h, false)).chain(cumulating.iter().map(|c| (c, true)));
        for ((width, slide, offset), cumulating) in all {
            let w = Windows { width: *width, slide: *slide, offset: *offset, cumulating };
            for k in -30..30 {
                let slice = k * w.slice() + w.offset;
                assert_eq!(w.slice_of(slice + w.slice() - 1), slice);
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
                for end in all {
                    let start = w.start_of(end);
                    assert!(start <= slice && end - start <= w.width, "{w:?} {slice} {end}");
                }
            }
        }
    }
}
