//! Names that look like another's.

use crate::search::{Card, Snapshot};

/// Below this an agent is not worth imitating.
const INSTALLS_MIN: i64 = 50;

/// A name without what the eye overlooks.
pub fn key(name: &str) -> String {
    let plain = name.chars().filter(|c| *c != '-' && *c != '_' && *c != '.').map(|c| match c.to_ascii_lowercase() {
        '0' => 'o',
        '1' | 'i' => 'l',
        '5' => 's',
        '3' => 'e',
        other => other,
    });
    plain.collect::<String>().replace("rn", "m").replace("vv", "w")
}

/// Agents of other owners that `name` could be taken for.
pub fn look_alike(snapshot: &Snapshot, owner: &str, name: &str) -> Vec<String> {
    let own = key(name);
    let alike = |card: &&std::sync::Arc<Card>| {
        let theirs = key(&card.name);
        let near = own.len() >= 5 && strsim::damerau_levenshtein(&own, &theirs) <= 1;
        card.publisher_id != owner && (own == theirs || (near && card.installs >= INSTALLS_MIN))
    };
    snapshot.cards.iter().filter(alike).take(5).map(|c| c.full_name()).collect()
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn names_that_look_alike_have_one_key() {
        for (a, b) in [("code-review", "codereview"), ("l1nter", "linter"), ("modern", "modem"), ("re0rder", "reorder")]
        {
            assert_eq!(key(a), key(b), "{a} {b}");
        }
    }
}
