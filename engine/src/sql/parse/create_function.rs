//! `CREATE FUNCTION name(a INT, b TEXT) RETURNS INT [LANGUAGE SQL] RETURN expression`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{CreateFunction, Source, Statement, place};
use crate::error::{Error, Result, SqlError};

const FORM: &str = "write CREATE FUNCTION name(a BIGINT, b TEXT) RETURNS BIGINT RETURN expression";

/// What follows `CREATE FUNCTION`.
pub fn parse(source: Source<'_>, parser: &mut Parser<'_>) -> Result<Statement> {
    let name_and_types = |parser: &mut Parser<'_>| -> Result<_, ParserError> {
        let name = parser.parse_identifier()?;
        parser.expect_token(&Token::LParen)?;
        let argument = |p: &mut Parser<'_>| Ok((p.parse_identifier()?, p.parse_data_type()?));
        let arguments = match parser.peek_token().token {
            Token::RParen => Vec::new(),
            _ => parser.parse_comma_separated(argument)?,
        };
        parser.expect_token(&Token::RParen)?;
        parser.expect_keyword(Keyword::RETURNS)?;
        Ok((name, arguments, parser.parse_data_type()?))
    };
    let (name, arguments, returns) = name_and_types(parser).map_err(|e| match source.parser_error(e) {
        Error::Query(e) => Error::Query(SqlError { fix: Some(FORM.into()), ..e }),
        other => other,
    })?;
    loop {
        let next = parser.peek_token();
        if parser.parse_keyword(Keyword::LANGUAGE) {
            let language = parser.parse_identifier().map_err(|e| source.parser_error(e))?;
            if !language.value.eq_ignore_ascii_case("sql") {
                let message = format!("functions are written in SQL, not in {language}");
                let fix = "write LANGUAGE SQL, or register a function of the embedding program".to_string();
                return Err(source.error(Some(place(&next)), message, Some(fix)));
            }
        } else if parser.parse_keyword(Keyword::RETURN) {
            let body = parser.parse_expr().map_err(|e| source.parser_error(e))?;
            return Ok(Statement::CreateFunction(CreateFunction { name, arguments, returns, body }));
        } else if !parser.parse_keyword(Keyword::IMMUTABLE) {
            let message = format!("expected RETURN and an expression, found {}", next.token);
            return Err(source.error(Some(place(&next)), message, Some(FORM.into())));
        }
    }
}
