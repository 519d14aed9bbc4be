//! Secrets that a package should not have: tokens that leak scanners can tell by how they begin.

/// (how it begins, characters that follow at least, whose).
const KINDS: [(&str, usize, &str); 14] = [
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS session key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("github_pat_", 40, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("sk_live_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("sk-ant-", 24, "a model provider's key"),
    ("mkt_", 40, "a token of this marketplace"),
    ("millstream_", 40, "a Millstream key"),
];

/// What was found in a file, without the secret itself.
pub fn find(path: &str, bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l)) {
        if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----") {
            found.push(format!("{path}:{number}: a private key"));
        }
        for (prefix, length, what) in KINDS {
            let hit = line.match_indices(prefix).any(|(at, _)| {
                let before = line.get(..at).and_then(|b| b.chars().next_back());
                let after = line.get(at + prefix.len()..).unwrap_or_default();
                let token = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-').count();
                token >= length && !before.is_some_and(|c| c.is_ascii_alphanumeric())
            });
            if hit {
                found.push(format!("{path}:{number}: {what}"));
            }
        }
        if found.len() >= 20 {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn a_token_is_named_with_its_place_and_not_shown() {
        let token = format!("ghp_{}", "a".repeat(36));
        assert_eq!(find("x.py", format!("a\nkey = \"{token}\"\n").as_bytes()), ["x.py:2: a GitHub token"]);
        assert!(find("x.py", b"ghp_short AKIA and words like MAKIAVELLI1234567890").is_empty());
    }
}
