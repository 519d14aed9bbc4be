//! `CREATE TABLE`: columns, `WATERMARK FOR`, `WITH (...)`.

use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Column, CreateTable, Source, Statement, fold, name_of, place, place_of_name};
use crate::connectors::options::{OptionValue, Options};
use crate::error::{Error, Result};
use crate::sql::duration;

/// What follows `CREATE TABLE`.
pub fn parse(source: Source<'_>, parser: &mut Parser<'_>) -> Result<Statement> {
    let at = |e| source.parser_error(e);
    let _optional = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = name_of(&parser.parse_object_name(false).map_err(at)?);
    let (columns, options, partitioned_by) = (Vec::new(), Options::default(), Vec::new());
    let mut table = CreateTable { name, columns, watermark: None, options, partitioned_by, query: None };
    if parser.consume_token(&Token::LParen) {
        loop {
            column_or_watermark(source, parser, &mut table)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen).map_err(at)?;
    }
    loop {
        if table.options.is_empty() && parser.parse_keyword(Keyword::WITH) {
            table.options = self::options(source, parser)?;
        } else if table.partitioned_by.is_empty() && parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
            parser.expect_token(&Token::LParen).map_err(at)?;
            table.partitioned_by = parser.parse_comma_separated(Parser::parse_expr).map_err(at)?;
            parser.expect_token(&Token::RParen).map_err(at)?;
        } else {
            break;
        }
    }
    if parser.parse_keyword(Keyword::AS) {
        table.query = Some(parser.parse_query().map_err(at)?);
        if table.options.is_empty() && table.columns.is_empty() {
            let query = table.query.take().ok_or_else(|| Error::Bug("a query vanished".into()))?;
            return Ok(Statement::CreateView { name: table.name, query, materialized: false });
        }
    }
    Ok(Statement::CreateTable(table))
}

fn column_or_watermark(source: Source<'_>, parser: &mut Parser<'_>, table: &mut CreateTable) -> Result<()> {
    let at = |e| source.parser_error(e);
    let first = parser.peek_token();
    let second = parser.peek_nth_token(1).token;
    let is = |t: &Token, word: &str| matches!(t, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
    if is(&first.token, "watermark") && is(&second, "for") {
        parser.next_token();
        parser.next_token();
        if table.watermark.is_some() {
            return Err(source.error(Some(place(&first)), "only one WATERMARK FOR is allowed per table", None));
        }
        let column = parser.parse_identifier().map_err(at)?;
        let expression = if parser.parse_keyword(Keyword::AS) { Some(parser.parse_expr().map_err(at)?) } else { None };
        table.watermark = Some((column, expression));
        return Ok(());
    }
    if is(&first.token, "primary") && is(&second, "key") && parser.peek_nth_token(2).token == Token::LParen {
        return primary_key(source, parser, table);
    }
    for constraint in ["primary", "unique", "foreign", "check", "constraint"] {
        if is(&first.token, constraint) && !matches!(second, Token::Word(_))
            || is(&first.token, "primary") && is(&second, "key")
        {
            let fix = "leave it out: rows are not checked against one another; PRIMARY KEY is for keys".to_string();
            return Err(source.error(Some(place(&first)), "unsupported table constraint", Some(fix)));
        }
    }
    let name = parser.parse_identifier().map_err(at)?;
    if parser.peek_keyword(Keyword::AS) {
        let fix = format!("write its type: {name} TYPE GENERATED ALWAYS AS (expression)");
        return Err(source.error(Some(place(&first)), "a computed column without a type", Some(fix)));
    }
    let data_type = parser.parse_data_type().map_err(at)?;
    let mut column = Column { name, data_type, nullable: true, primary_key: false, generated: None, metadata: None };
    loop {
        if parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
            column.nullable = false;
        } else if parser.parse_keyword(Keyword::NULL) {
        } else if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
            (column.nullable, column.primary_key) = (false, true);
            not_enforced(parser);
        } else if parser.parse_keywords(&[Keyword::GENERATED, Keyword::ALWAYS, Keyword::AS]) {
            parser.expect_token(&Token::LParen).map_err(at)?;
            let expression = parser.parse_expr().map_err(at)?;
            match metadata_call(&expression) {
                Some(key) => column.metadata = Some(key),
                None => column.generated = Some(expression),
            }
            parser.expect_token(&Token::RParen).map_err(at)?;
            let _optional = parser.parse_keyword(Keyword::STORED);
        } else if is(&parser.peek_token().token, "metadata") {
            parser.next_token();
            // As Flink has it, the key is the column's name where none is written.
            column.metadata = Some(match parser.parse_keyword(Keyword::FROM) {
                true => parser.parse_literal_string().map_err(at)?,
                false => column.name.value.clone(),
            });
            if is(&parser.peek_token().token, "virtual") {
                parser.next_token();
            }
        } else {
            table.columns.push(column);
            return Ok(());
        }
    }
}

/// `PRIMARY KEY (a, b)`, after the columns that it names.
fn primary_key(source: Source<'_>, parser: &mut Parser<'_>, table: &mut CreateTable) -> Result<()> {
    let at = |e| source.parser_error(e);
    parser.expect_keywords(&[Keyword::PRIMARY, Keyword::KEY]).map_err(at)?;
    parser.expect_token(&Token::LParen).map_err(at)?;
    for key in parser.parse_comma_separated(Parser::parse_identifier).map_err(at)? {
        let Some(column) = table.columns.iter_mut().find(|c| fold(&c.name) == fold(&key)) else {
            let message = format!("PRIMARY KEY names '{key}', which is no column before it");
            let fix = "write PRIMARY KEY (...) after the columns".to_string();
            return Err(source.error(place_of_name(&key), message, Some(fix)));
        };
        (column.nullable, column.primary_key) = (false, true);
    }
    parser.expect_token(&Token::RParen).map_err(at)?;
    not_enforced(parser);
    Ok(())
}

/// `NOT ENFORCED`, as Flink wants it and as it is.
fn not_enforced(parser: &mut Parser<'_>) {
    let enforced = matches!(parser.peek_nth_token(1).token, Token::Word(w) if w.value.eq_ignore_ascii_case("enforced"));
    if enforced && parser.parse_keyword(Keyword::NOT) {
        parser.next_token();
    }
}

/// The key of `metadata('key')`, the older form of `METADATA FROM 'key'`.
fn metadata_call(e: &Expr) -> Option<String> {
    let Expr::Function(f) = e else { return None };
    if !f.name.to_string().eq_ignore_ascii_case("metadata") {
        return None;
    }
    let FunctionArguments::List(arguments) = &f.args else { return None };
    match arguments.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => match &value.value {
            Value::SingleQuotedString(key) => Some(key.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// `(key = value, ...)`; keys bare (dots allowed) or quoted.
fn options(source: Source<'_>, parser: &mut Parser<'_>) -> Result<Options> {
    let at = |e| source.parser_error(e);
    parser.expect_token(&Token::LParen).map_err(at)?;
    let mut options = Options::default();
    loop {
        let first = parser.peek_token();
        let key = match parser.peek_token().token {
            Token::SingleQuotedString(key) => {
                parser.next_token();
                key
            }
            _ => name_of(&parser.parse_object_name(false).map_err(at)?),
        };
        parser.expect_token(&Token::Eq).map_err(at)?;
        let value = option_value(source, parser)?;
        if options.insert(key.clone(), value, place(&first)) {
            return Err(source.error(Some(place(&first)), format!("option '{key}' is given twice"), None));
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(at)?;
    Ok(options)
}

/// A value as options and `SET` take it.
pub fn option_value(source: Source<'_>, parser: &mut Parser<'_>) -> Result<OptionValue> {
    let token = parser.peek_token();
    let value = match &token.token {
        Token::SingleQuotedString(s) => OptionValue::Text(s.clone()),
        Token::Number(n, _) => OptionValue::Number(n.clone()),
        Token::Word(w) if w.keyword == Keyword::INTERVAL => {
            let e = parser.parse_expr().map_err(|e| source.parser_error(e))?;
            return duration::of_expression(&e).map(OptionValue::Duration).ok_or_else(|| {
                source.error(Some(place(&token)), "expected an interval such as INTERVAL '10 seconds'", None)
            });
        }
        Token::Word(w) => OptionValue::Text(w.value.clone()),
        Token::LBracket => {
            parser.next_token();
            let items = parser.parse_comma_separated(Parser::parse_identifier).map_err(|e| source.parser_error(e))?;
            parser.expect_token(&Token::RBracket).map_err(|e| source.parser_error(e))?;
            return Ok(OptionValue::List(items.into_iter().map(|i| i.value).collect()));
        }
        other => {
            let fix = "write 'text', a number, true, false or INTERVAL '...'".to_string();
            return Err(source.error(
                Some(place(&token)),
                format!("expected an option's value, found {other}"),
                Some(fix),
            ));
        }
    };
    parser.next_token();
    Ok(value)
}
