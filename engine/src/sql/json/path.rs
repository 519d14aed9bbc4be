//! The part of JSONPath that is one way down: `$.a.b[0]['c d'][*]`.

use super::scan::Step;

/// The steps of a path; otherwise what is wrong with it.
pub fn parse(path: &str) -> Result<Vec<Step>, String> {
    let wrong =
        || format!("JSONPath '{path}' is not supported; write $, then .name, ['name'], [0] or [*], such as $.a.b[0]");
    let mut rest = path.trim().strip_prefix('$').ok_or_else(wrong)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, next) = after.split_at(end);
            let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
            steps.push(match name {
                "*" => Step::Every,
                _ if plain => Step::Key(name.into()),
                _ => return Err(wrong()),
            });
            rest = next;
        } else {
            let (inside, next) = bracket(rest).ok_or_else(wrong)?;
            let quoted = ["'", "\""].iter().find_map(|q| inside.strip_prefix(*q)?.strip_suffix(*q));
            steps.push(match (quoted, inside.parse()) {
                (Some(name), _) => Step::Key(name.into()),
                (None, Ok(index)) => Step::Index(index),
                (None, Err(_)) if inside == "*" => Step::Every,
                _ => return Err(wrong()),
            });
            rest = next;
        }
    }
    Ok(steps)
}

/// What stands in the brackets at the beginning, and what follows them.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('[')?;
    let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let end = match quote {
        Some(q) => inside.find(&format!("{q}]"))? + 1,
        None => inside.find(']')?,
    };
    Some((inside.get(..end)?.trim(), inside.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_steps() {
        let key = |k: &str| Step::Key(k.into());
        assert_eq!(parse("$").unwrap(), []);
        assert_eq!(parse("$.a.b-c[0][-1]").unwrap(), [key("a"), key("b-c"), Step::Index(0), Step::Index(-1)]);
        assert_eq!(parse("$['a.b]'][*].*[\"c\"]").unwrap(), [key("a.b]"), Step::Every, Step::Every, key("c")]);
        for wrong in ["", "a", "$a", "$..a", "$.", "$[", "$[a]", "$[?(@.a>1)]", "$[0:2]", "$['a'"] {
            assert!(parse(wrong).unwrap_err().starts_with(&format!("JSONPath '{wrong}' is not")), "{wrong}");
        }
    }
}
