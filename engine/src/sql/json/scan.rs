//! Finding values inside JSON text without building a tree: only what lies on the way to the value is looked at.

use std::borrow::Cow;

/// One step from a value to a value inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array, from 0; from the end if negative.
    Index(i64),
    /// Every member or element.
    Every,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{...}`
    Object,
    /// `[...]`
    Array,
    /// `"..."`
    Text,
    /// A number.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

/// The kind of a value, by its first character; `None` if it cannot be JSON.
pub fn kind(value: &str) -> Option<Kind> {
    match value.trim_start().as_bytes().first()? {
        b'{' => Some(Kind::Object),
        b'[' => Some(Kind::Array),
        b'"' => Some(Kind::Text),
        b't' | b'f' => Some(Kind::Boolean),
        b'n' => Some(Kind::Null),
        b'-' | b'0'..=b'9' => Some(Kind::Number),
        _ => None,
    }
}

/// The text of the first value at `path`; `None` if there is none, or if the text is not JSON up to there.
pub fn find<'a>(json: &'a str, path: &[Step]) -> Option<&'a str> {
    let Some((step, rest)) = path.split_first() else { return value_at(json, 0).map(|(value, _)| value) };
    let wanted = wanted(json, step)?;
    let mut found = None;
    each(json, |key, index, value| {
        if wanted.is(key, index) {
            found = find(value, rest);
        }
        found.is_none()
    })?;
    found
}

/// The texts of all values at `path`.
pub fn find_all<'a>(json: &'a str, path: &[Step], found: &mut Vec<&'a str>) {
    let Some((step, rest)) = path.split_first() else {
        found.extend(value_at(json, 0).map(|(value, _)| value));
        return;
    };
    let Some(wanted) = wanted(json, step) else { return };
    each(json, |key, index, value| {
        if wanted.is(key, index) {
            find_all(value, rest, found);
        }
        true
    });
}

/// What a step selects in one array or object.
enum Wanted<'p> {
    Key(&'p str),
    Index(usize),
    Every,
}

impl Wanted<'_> {
    fn is(&self, key: Option<&str>, index: usize) -> bool {
        match (self, key) {
            (Self::Key(wanted), Some(key)) => unescaped(key) == *wanted,
            (Self::Index(wanted), None) => *wanted == index,
            (Self::Every, _) => true,
            _ => false,
        }
    }
}

fn wanted<'p>(json: &str, step: &'p Step) -> Option<Wanted<'p>> {
    Some(match step {
        Step::Key(key) => Wanted::Key(key),
        Step::Every => Wanted::Every,
        Step::Index(i) if *i < 0 => Wanted::Index(length(json)?.checked_sub(usize::try_from(i.unsigned_abs()).ok()?)?),
        Step::Index(i) => Wanted::Index(usize::try_from(*i).ok()?),
    })
}

/// How many members or elements; `None` if it is neither an object nor an array.
pub fn length(json: &str) -> Option<usize> {
    let mut n = 0;
    each(json, |_, _, _| {
        n += 1;
        true
    })?;
    Some(n)
}

/// Calls `f` with the raw key (between its quotes; `None` in an array), the index and the text of each value, while it
/// returns true. `None` if the text is not an array or object, or is broken before the end.
pub fn each<'a>(json: &'a str, mut f: impl FnMut(Option<&'a str>, usize, &'a str) -> bool) -> Option<()> {
    let bytes = json.as_bytes();
    let start = blank(bytes, 0);
    let close = match bytes.get(start)? {
        b'{' => b'}',
        b'[' => b']',
        _ => return None,
    };
    let mut at = blank(bytes, start + 1);
    if *bytes.get(at)? == close {
        return Some(());
    }
    for index in 0.. {
        let mut key = None;
        if close == b'}' {
            let (text, end) = value_at(json, at)?;
            key = Some(text.strip_prefix('"')?.strip_suffix('"')?);
            at = blank(bytes, end);
            if *bytes.get(at)? != b':' {
                return None;
            }
            at += 1;
        }
        let (value, end) = value_at(json, at)?;
        if !f(key, index, value) {
            return Some(());
        }
        at = blank(bytes, end);
        match bytes.get(at)? {
            b',' => at = blank(bytes, at + 1),
            end if *end == close => return Some(()),
            _ => return None,
        }
    }
    None
}

/// A JSON string's content. `text` is what stands between the quotes.
pub fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    serde_json::from_str::<String>(&format!("\"{text}\"")).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// A value as text: a string without its quotes, nothing for `null`, anything else as it is written.
pub fn as_text(value: &str) -> Option<Cow<'_, str>> {
    match kind(value)? {
        Kind::Null => None,
        Kind::Text => Some(unescaped(value.strip_prefix('"')?.strip_suffix('"')?)),
        _ => Some(Cow::Borrowed(value)),
    }
}

/// The value that begins at or after `at`, and where it ends.
fn value_at(json: &str, at: usize) -> Option<(&str, usize)> {
    let bytes = json.as_bytes();
    let start = blank(bytes, at);
    let end = match bytes.get(start)? {
        b'"' => string_end(bytes, start)?,
        b'{' | b'[' => {
            let (mut depth, mut at) = (0usize, start);
            loop {
                match bytes.get(at)? {
                    b'"' => at = string_end(bytes, at)?,
                    b'{' | b'[' => (depth, at) = (depth + 1, at + 1),
                    b'}' | b']' => (depth, at) = (depth.checked_sub(1)?, at + 1),
                    _ => at += 1,
                }
                if depth == 0 {
                    break at;
                }
            }
        }
        _ => {
            let rest = bytes.get(start..)?;
            let literal = rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
            let end = start + literal.unwrap_or(rest.len());
            is_literal(json.get(start..end)?).then_some(end)?
        }
    };
    Some((json.get(start..end)?, end))
}

fn is_literal(text: &str) -> bool {
    matches!(text, "true" | "false" | "null")
        || text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.parse::<f64>().is_ok()
}

/// The place after the closing quote of the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(k: &str) -> Step {
        Step::Key(k.into())
    }

    #[test]
    fn values_are_found_where_serde_json_finds_them() {
        let json = r#" {"a": {"b\"x": [1, {"c": "}]\\\""}, null, -1.5e3], "ä": true}, "n": null, "e": {}, "l": [] } "#;
        let tree: serde_json::Value = serde_json::from_str(json).unwrap();
        let cases: [(&[Step], &str); 8] = [
            (&[key("a"), key("b\"x"), Step::Index(1), key("c")], "/a/b\"x/1/c"),
            (&[key("a"), key("b\"x"), Step::Index(-1)], "/a/b\"x/3"),
            (&[key("a"), key("ä")], "/a/ä"),
            (&[key("n")], "/n"),
            (&[key("e")], "/e"),
            (&[key("l")], "/l"),
            (&[key("a")], "/a"),
            (&[], ""),
        ];
        for (path, pointer) in cases {
            let found: serde_json::Value = serde_json::from_str(find(json, path).unwrap()).unwrap();
            assert_eq!(Some(&found), tree.pointer(pointer), "{pointer}");
        }
        for path in
            [&[key("x")][..], &[Step::Index(0)], &[key("n"), key("y")], &[key("a"), key("b\"x"), Step::Index(4)]]
        {
            assert_eq!(find(json, path), None);
        }
    }

    #[test]
    fn broken_text_has_no_values_and_does_not_panic() {
        let whole = r#"{"a": ["x", {"b": "\u00e4"}], "c": tru}"#;
        for end in (0..whole.len()).filter(|i| whole.is_char_boundary(*i)) {
            let text = &whole[..end];
            assert_eq!(find(text, &[key("c")]), None, "{text}");
            find(text, &[key("a"), Step::Index(1), key("b")]);
        }
        for text in ["", "nonsense", "{]", "[1 2]", "{\"a\" 1}", "{a: 1}", "\"", "\\"] {
            assert_eq!(find(text, &[key("a")]), None, "{text}");
            assert_eq!(find(text, &[Step::Index(1)]), None, "{text}");
        }
    }
}
