//! Window table functions in the parser's grammar: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTES))` becomes
//! `TUMBLE(t, ts, INTERVAL '10' MINUTES)`, token by token, so that errors keep their places.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

const FUNCTIONS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// Rewrites all window table functions of a text. Other tokens stay as they are.
pub fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_used = tokens.iter().any(|t| is_word(&t.token, "descriptor"));
    if !is_used {
        return tokens;
    }
    let mut tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_call(&tokens, at) {
            let end = closing(&tokens, at + 1);
            arguments(&mut tokens, at + 2, end);
            let end = closing(&tokens, at + 1);
            let wrapped = at >= 2
                && is(&tokens, at - 1, &Token::LParen)
                && tokens.get(at - 2).is_some_and(|t| is_word(&t.token, "table"))
                && is(&tokens, end + 1, &Token::RParen);
            if wrapped {
                tokens.remove(end + 1);
                tokens.drain(at - 2..at);
                at -= 2;
            }
        }
        at += 1;
    }
    tokens
}

/// Rewrites what is between the parentheses of a call.
fn arguments(tokens: &mut Vec<TokenWithSpan>, start: usize, end: usize) {
    let mut own: Vec<TokenWithSpan> = tokens.drain(start..end).collect();
    let mut written: Vec<TokenWithSpan> = Vec::new();
    let mut partition = false;
    let mut i = 0;
    while i < own.len() {
        let word = |w: &str| own.get(i).is_some_and(|t| is_word(&t.token, w));
        let named = matches!(own.get(i + 1), Some(t) if t.token == Token::RArrow);
        if named {
            i += 2;
        } else if word("table") {
            i += 1;
        } else if word("partition") && own.get(i + 1).is_some_and(|t| is_word(&t.token, "by")) {
            let span = own.get(i).map(|t| t.span);
            written.extend(span.map(|span| TokenWithSpan { token: Token::Comma, span }));
            written.extend(span.map(|span| TokenWithSpan { token: Token::LBracket, span }));
            partition = true;
            i += 2;
        } else if word("descriptor") && is(&own, i + 1, &Token::LParen) {
            if partition {
                // The comma before belongs behind the list.
                if let Some(comma) = written.pop() {
                    written.push(TokenWithSpan { token: Token::RBracket, span: comma.span });
                    written.push(comma);
                }
                partition = false;
            }
            let close = closing(&own, i + 1);
            written.extend(own.get(i + 2..close).unwrap_or_default().iter().cloned());
            i = close + 1;
        } else {
            written.extend(own.get(i).cloned());
            i += 1;
        }
    }
    own.clear();
    tokens.splice(start..start, written);
}

fn is_call(tokens: &[TokenWithSpan], at: usize) -> bool {
    let name = |t: &TokenWithSpan| FUNCTIONS.iter().any(|f| is_word(&t.token, f));
    tokens.get(at).is_some_and(name) && is(tokens, at + 1, &Token::LParen)
}

/// The place of the parenthesis that closes the one at `open`; the end, if none does.
fn closing(tokens: &[TokenWithSpan], open: usize) -> usize {
    let mut depth = 0;
    for (i, t) in tokens.iter().enumerate().skip(open) {
        match t.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return i,
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is(tokens: &[TokenWithSpan], at: usize, token: &Token) -> bool {
    tokens.get(at).is_some_and(|t| t.token == *token)
}

/// Whether a token is an unquoted word.
pub(in crate::sql) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}
