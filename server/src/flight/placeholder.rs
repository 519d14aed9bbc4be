//! `?` for a parameter, as ADBC and JDBC write it. The engine counts: `$1`, `$2`, ...

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The text with every `?` that stands for a parameter as `$n`, in the order of the text.
pub fn numbered(sql: &str) -> String {
    // Quotes and comments are told from SQL by the tokenizer; what it cannot read is the planner's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).with_unescape(false).tokenize() else {
        return sql.to_string();
    };
    if !tokens.iter().any(is_question) {
        return sql.to_string();
    }
    let mut number = 0;
    let text = tokens.iter().map(|token| {
        if !is_question(token) {
            return token.to_string();
        }
        number += 1;
        format!("${number}")
    });
    text.collect()
}

fn is_question(token: &Token) -> bool {
    matches!(token, Token::Placeholder(name) if name == "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_are_counted_outside_of_quotes() {
        assert_eq!(
            numbered("SELECT 'a?''b', \"c?\" -- ?\nFROM t WHERE x = ? AND y > ?"),
            "SELECT 'a?''b', \"c?\" -- ?\nFROM t WHERE x = $1 AND y > $2"
        );
        assert_eq!(numbered("SELECT $1"), "SELECT $1");
        assert_eq!(numbered("SELECT '"), "SELECT '");
    }
}
