//! Durations as people write them: `100ms`, `10s`, `5m`, `2h`, `1d`.

use std::time::Duration;

use serde::Deserialize;

/// Reads `100ms`, `10s`, `5m`, `2h` or `1d`; a fraction and a bare number are refused, zero too.
pub fn parse(text: &str) -> Result<Duration, String> {
    let fix = "write a whole number and a unit, such as 100ms, 10s, 5m, 2h or 1d";
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a duration; {fix}"))?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("`{text}` has no unit; {fix}")),
        other => return Err(format!("`{text}` has the unknown unit `{other}`; {fix}")),
    };
    match number.checked_mul(unit_ms) {
        None => Err(format!("`{text}` is too long; {fix}")),
        Some(0) => Err(format!("`{text}` is zero; write a positive duration such as 10s")),
        Some(ms) => Ok(Duration::from_millis(ms)),
    }
}

/// For `#[serde(deserialize_with = "duration::deserialize")]`.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(parse("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1d"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn errors_tell_the_fix() {
        for (text, what) in [
            ("10", "`10` has no unit"),
            ("10 s", "`10 s` has the unknown unit ` s`"),
            ("1.5s", "`1.5s` has the unknown unit `.5s`"),
            ("", "`` is not a duration"),
            ("0s", "`0s` is zero"),
            ("18446744073709551615d", "is too long"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(what) && error.contains("10s"), "{text}: {error}");
        }
    }
}
