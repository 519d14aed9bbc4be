//! The options of `WITH (...)`: each is taken by the connector that knows it, and what is left is refused by name.

use std::collections::BTreeMap;

use crate::error::{Error, Result, SqlError};

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// `'text'` or a bare word.
    Text(String),
    /// A number.
    Number(String),
    /// `INTERVAL '...'`, in nanoseconds.
    Duration(i64),
    /// `[a, b]`.
    List(Vec<String>),
}

/// Options by key, with their place in the text.
#[derive(Debug, Clone, Default)]
pub struct Options {
    values: BTreeMap<String, (OptionValue, (u64, u64))>,
    known: Vec<&'static str>,
}

impl Options {
    /// Adds an option; true if the key was there already.
    pub fn insert(&mut self, key: String, value: OptionValue, place: (u64, u64)) -> bool {
        self.values.insert(key, (value, place)).is_some()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn take(&mut self, key: &'static str) -> Option<(OptionValue, (u64, u64))> {
        self.known.push(key);
        self.values.remove(key)
    }

    /// Puts `other` in the place of `word` as the value of `key`; whether it was there.
    pub fn replace(&mut self, key: &str, word: &str, other: &str) -> bool {
        match self.values.get_mut(key) {
            Some((OptionValue::Text(t), _)) if t.eq_ignore_ascii_case(word) => {
                *t = other.to_string();
                true
            }
            _ => false,
        }
    }

    /// A text, if given.
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some((OptionValue::Text(t) | OptionValue::Number(t), _)) => Ok(Some(t)),
            Some((OptionValue::Duration(_) | OptionValue::List(_), place)) => {
                Err(wrong(key, "a text such as 'x'", place))
            }
        }
    }

    /// One of some words, if given.
    pub fn word(&mut self, key: &'static str, allowed: &[&str]) -> Result<Option<String>> {
        let place = self.values.get(key).map(|v| v.1);
        match self.text(key)? {
            Some(word) if !allowed.contains(&word.to_lowercase().as_str()) => {
                Err(wrong(key, &format!("one of {}, not '{word}'", allowed.join(", ")), place.unwrap_or_default()))
            }
            word => Ok(word.map(|w| w.to_lowercase())),
        }
    }

    /// A number above zero, if given.
    pub fn positive(&mut self, key: &'static str) -> Result<Option<f64>> {
        match self.take(key) {
            None => Ok(None),
            Some((OptionValue::Number(n) | OptionValue::Text(n), place)) => match n.parse::<f64>() {
                Ok(n) if n > 0.0 => Ok(Some(n)),
                _ => Err(wrong(key, "a number above zero", place)),
            },
            Some((_, place)) => Err(wrong(key, "a number above zero", place)),
        }
    }

    /// A whole number from zero, if given.
    pub fn whole(&mut self, key: &'static str) -> Result<Option<u64>> {
        match self.take(key) {
            None => Ok(None),
            Some((OptionValue::Number(n) | OptionValue::Text(n), place)) => match n.parse() {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(wrong(key, "a whole number", place)),
            },
            Some((_, place)) => Err(wrong(key, "a whole number", place)),
        }
    }

    /// A duration in nanoseconds, if given; a plain number is not one.
    pub fn duration(&mut self, key: &'static str) -> Result<Option<i64>> {
        match self.take(key) {
            None => Ok(None),
            Some((OptionValue::Duration(d), _)) => Ok(Some(d)),
            Some((_, place)) => Err(wrong(key, "an interval such as INTERVAL '5 minutes'", place)),
        }
    }

    /// True or false, if given.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>> {
        Ok(self.word(key, &["true", "false"])?.map(|w| w == "true"))
    }

    /// A list of names, if given; a single word is a list of one.
    pub fn list(&mut self, key: &'static str) -> Result<Option<Vec<String>>> {
        match self.take(key) {
            None => Ok(None),
            Some((OptionValue::List(items), _)) => Ok(Some(items)),
            Some((OptionValue::Text(one), _)) => Ok(Some(vec![one])),
            Some((_, place)) => Err(wrong(key, "a list such as [a, b]", place)),
        }
    }

    /// Refuses what nobody took.
    pub fn finish(self, connector: &str) -> Result<()> {
        let Some((key, (_, place))) = self.values.into_iter().next() else { return Ok(()) };
        Err(Error::Query(SqlError {
            message: format!("unknown option '{key}' for connector '{connector}'"),
            fix: Some(format!("use one of: {}", self.known.join(", "))),
            place: Some(place),
            ..SqlError::default()
        }))
    }
}

fn wrong(key: &str, expected: &str, place: (u64, u64)) -> Error {
    Error::Query(SqlError {
        message: format!("option '{key}' must be {expected}"),
        place: Some(place),
        ..SqlError::default()
    })
}
