//! `CREATE FUNCTION`: a function whose body is a SQL expression. A call is replaced by the body when the query is simplified,
//! so a plan shows what is computed, and a changed body is a changed plan.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DfResult, exec_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::catalog::Catalog;
use super::column_type::{arrow_type, sql_type, unsupported_type};
use super::functions::Functions;
use super::parse::{CreateFunction, Place, Source, fold, place_of, place_of_name};
use super::planner::Planner;
use crate::error::{Error, Result};

/// A function that was written in SQL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SqlFunction {
    name: String,
    signature: Signature,
    arguments: SchemaRef,
    returns: DataType,
    /// Over `arguments`, of type `returns`.
    body: Expr,
}

/// Declares a function.
///
/// Errors: a name that is taken, an unsupported type, two arguments of one name, a body that calls the function itself, that
/// aggregates, or whose value does not cast to the declared type.
pub fn create(
    source: Source<'_>,
    catalog: &Catalog,
    functions: &mut Functions,
    place: Place,
    written: CreateFunction,
) -> Result<()> {
    let CreateFunction { name: ident, arguments, returns, body } = written;
    let (name, at) = (fold(&ident), place_of_name(&ident).or(Some(place)));
    if functions.has(&name) {
        let fix = "choose another name".to_string();
        return Err(source.error(at, format!("there is a function '{name}' already"), Some(fix)));
    }
    let mut fields: Vec<Field> = Vec::new();
    for (argument, data_type) in &arguments {
        let own = fold(argument);
        if fields.iter().any(|f| *f.name() == own) {
            let message = format!("function '{name}' has two arguments named '{own}'");
            return Err(source.error(place_of_name(argument), message, Some("rename one of the two".into())));
        }
        let found = arrow_type(data_type).ok_or_else(|| {
            unsupported_type(source, place_of_name(argument), data_type, &format!("argument '{own}'"))
        })?;
        fields.push(Field::new(own, found, true));
    }
    let returns =
        arrow_type(&returns).ok_or_else(|| unsupported_type(source, at, &returns, &format!("function '{name}'")))?;
    let arguments: SchemaRef = Arc::new(Schema::new(fields));
    let body_at = place_of(&body).or(at);
    let planned = Planner::new(source, catalog, functions).over_columns(&arguments, body, at);
    let (body, schema) = planned.map_err(|e| recursion(source, e, &name, at))?;
    if body.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))))? {
        let message = "a function's expression sees one row, so it cannot aggregate";
        return Err(source.error(body_at, message, Some("aggregate in the query that calls it".into())));
    }
    let found = body.get_type(&schema)?;
    let body = body.cast_to(&returns, &schema).map_err(|_| {
        let message = format!(
            "function '{name}' returns {}, but its expression is {}, which does not cast to it",
            sql_type(&returns),
            sql_type(&found)
        );
        source.error(body_at, message, Some("change RETURNS, or cast the expression".into()))
    })?;
    let signature = Signature::user_defined(Volatility::Immutable);
    let f = SqlFunction { name, signature, arguments, returns, body };
    functions.add_scalar(Arc::new(ScalarUDF::from(f)));
    Ok(())
}

/// While its body is planned a function does not exist: a call of itself is an unknown function.
fn recursion(source: Source<'_>, e: Error, name: &str, at: Option<Place>) -> Error {
    match e {
        Error::Query(e) if e.message == format!("there is no function '{name}'") => source.error(
            e.place.or(at),
            format!("function '{name}' calls itself"),
            Some("write it without recursion".into()),
        ),
        other => other,
    }
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let fields = self.arguments.fields();
        if given.len() != fields.len() {
            let list: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), sql_type(f.data_type()))).collect();
            let (name, list) = (&self.name, list.join(", "));
            return plan_err!("wrong number of arguments: {} given, but the function is {name}({list})", given.len());
        }
        Ok(fields.iter().map(|f| f.data_type().clone()).collect())
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.clone())
    }

    fn simplify(&self, given: Vec<Expr>, _context: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        let body = self.body.clone().transform(|e| {
            let Expr::Column(c) = &e else { return Ok(Transformed::no(e)) };
            let at = self.arguments.index_of(&c.name).ok();
            Ok(at
                .and_then(|i| given.get(i))
                .map_or_else(|| Transformed::no(e.clone()), |a| Transformed::yes(a.clone())))
        })?;
        Ok(ExprSimplifyResult::Simplified(body.data))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        exec_err!("function {} was not replaced by its expression", self.name)
    }
}
