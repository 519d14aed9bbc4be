//! What people call a column, and how amounts of a currency are written. The unit is the last word of a column's name, as
//! everywhere in this project: `latency_p95_ms` is "Latency p95", in "ms".

use crate::chart::words;

/// Words that are written in capitals.
const CAPITALS: [&str; 11] = ["api", "arpa", "arr", "csv", "dau", "ltv", "mau", "mrr", "slo", "sql", "wau"];

/// The last words that are units, and how the unit is written. A money column's unit is the row's currency.
const UNITS: [(&str, &str); 8] = [
    ("_ms", "ms"),
    ("_usd", "$"),
    ("_minor", ""),
    ("_percent", "%"),
    ("_bytes", "B"),
    ("_seconds", "s"),
    ("_minutes", "min"),
    ("_gigabytes", "GB"),
];

/// A column's name as a heading, and its unit; the unit is empty where the name tells none.
pub fn label(column: &str) -> (String, &'static str) {
    let found = UNITS.iter().find_map(|(suffix, unit)| column.strip_suffix(suffix).map(|name| (name, *unit)));
    let (name, unit) = found.unwrap_or((column, ""));
    let name: Vec<String> = words(name).split(' ').map(capitals).collect();
    (capitalised(&name.join(" ")), unit)
}

/// As [`label`], in one text: `Latency p95, ms`.
pub fn titled(column: &str) -> String {
    match label(column) {
        (name, "") => name,
        (name, unit) => format!("{name}, {unit}"),
    }
}

fn capitals(word: &str) -> String {
    if CAPITALS.contains(&word) { word.to_uppercase() } else { word.to_string() }
}

/// With a capital first letter; `p95` stays as it is.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let percentile = text.starts_with('p') && text.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
    match chars.next() {
        Some(first) if !percentile => first.to_uppercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}

/// How many minor units a major one has: 100 cents, but the yen has none and some dinars have a thousand.
///
/// Source: ISO 4217, the codes whose exponent is not two.
pub fn minor_units(currency: &str) -> f64 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 1.0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 1_000.0,
        _ => 100.0,
    }
}

/// The sign that people write before an amount, else the code.
pub fn sign(currency: &str) -> &str {
    match currency {
        "USD" => "$",
        "EUR" => "€",
        "GBP" => "£",
        "JPY" => "¥",
        code => code,
    }
}

/// An amount with its currency as people write it.
pub fn money(amount: &str, currency: &str) -> String {
    match sign(currency) {
        "" => amount.to_string(),
        sign if sign == currency => format!("{sign} {amount}"),
        sign => format!("{sign}{amount}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_name_is_the_unit() {
        assert_eq!(label("latency_p95_ms"), ("Latency p95".into(), "ms"));
        assert_eq!(label("api_p95_ms"), ("API p95".into(), "ms"));
        assert_eq!(label("p95_ms"), ("p95".into(), "ms"));
        assert_eq!(label("mrr_minor"), ("MRR".into(), ""));
        assert_eq!(titled("success_percent"), "Success, %");
        assert_eq!(titled("active_users"), "Active users");
    }

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        assert_eq!((minor_units("EUR"), minor_units("JPY"), minor_units("KWD")), (100.0, 1.0, 1_000.0));
        assert_eq!((money("5", "EUR"), money("5", "CHF"), money("5", "")), ("€5".into(), "CHF 5".into(), "5".into()));
    }
}
