//! The calendar against Python's zoneinfo, which reads the system's own copy of the time zone database: every zone, the days
//! around every change of its clocks.

use chrono_tz::TZ_VARIANTS;
use millstream::sql::calendar::{Calendar, Interval, zone};
use millstream::time::SECOND;
use millstream_tests::python::python;

/// Per zone and year with a change: the local dates of every quarter of an hour of three days around it. Years of the past,
/// because the two copies of the database may be of different age. Samoa skipped a day in 2011; Lord Howe's clocks go by half hours.
const REFERENCE: &str = r#"
import sys
from datetime import datetime, timezone, timedelta
from zoneinfo import ZoneInfo, available_timezones
for name in sorted(available_timezones() & set(sys.argv[1].split(","))):
    z = ZoneInfo(name)
    for year in (2011, 2016, 2019, 2023):
        noon = int(datetime(year, 1, 1, 12, tzinfo=timezone.utc).timestamp())
        offset = lambda t: datetime.fromtimestamp(t, z).utcoffset()
        for day in range(364):
            t = noon + day * 86400
            if offset(t) == offset(t + 86400):
                continue
            start = t - 36 * 3600
            dates = []
            for q in range(0, 96 * 4):
                date = datetime.fromtimestamp(start + q * 900, z).date().isoformat()
                if not dates or dates[-1][1] != date:
                    dates.append((start + q * 900, date))
            print(name, start, start + 96 * 4 * 900, " ".join(f"{a},{b}" for a, b in dates))
"#;

#[test]
fn days_begin_where_every_zone_says() {
    let names: Vec<&str> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
    let reference = python(REFERENCE, &[&names.join(",")]);
    let (mut changes, mut zones) = (0, std::collections::BTreeSet::new());
    for line in reference.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let start: i64 = words.next().unwrap().parse().unwrap();
        let end: i64 = words.next().unwrap().parse().unwrap();
        let expected: Vec<(i64, &str)> =
            words.map(|pair| pair.split_once(',').unwrap()).map(|(at, date)| (at.parse().unwrap(), date)).collect();
        let mut calendar = Calendar::new(zone(name).unwrap());
        let mut ours: Vec<(i64, String)> = Vec::new();
        for at in (start..end).step_by(900) {
            let label = calendar.label(at * SECOND, Interval::Day);
            if ours.last().is_none_or(|(_, last)| *last != label) {
                ours.push((at, label));
            }
        }
        let shown: Vec<(i64, &str)> = ours.iter().map(|(at, date)| (*at, date.as_str())).collect();
        assert_eq!(shown, expected, "{name}");
        // The periods are the same days: where one begins, the local date changes.
        let starts = calendar.starts(start * SECOND, end * SECOND, Interval::Day).unwrap();
        let begun: Vec<i64> = starts.iter().skip(1).map(|at| at / SECOND).collect();
        assert_eq!(begun, expected.iter().skip(1).map(|(at, _)| *at).collect::<Vec<_>>(), "{name}");
        for pair in starts.windows(2) {
            assert_eq!(calendar.end(pair[0], Interval::Day), pair[1], "{name}: a day ends where the next begins");
            assert_eq!(calendar.start(pair[1] - 1, Interval::Day), pair[0], "{name}");
        }
        changes += 1;
        zones.insert(name.to_string());
    }
    assert!(changes > 900 && zones.len() > 200, "{changes} changes of clocks in {} zones", zones.len());
}
