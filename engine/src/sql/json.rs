//! JSON in TEXT columns: `->`, `->>`, `?`, the `json_*` functions and three that take a JSONPath.
//!
//! A JSON value inside JSON is TEXT that holds JSON: `->` and `json_get` keep a string's quotes, `->>` and `json_as_text` take
//! them off. A cast or a comparison of `->` reads the value as the other type. What is not there, or is not of the type asked
//! for, or is not JSON, is NULL.

mod path;
pub mod scan;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Array, Int64Builder, ListBuilder, StringArray,
    StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use scan::{Kind, Step};

/// What a function gives for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Gives {
    Json,
    Text,
    TextOnly,
    Int,
    Float,
    Bool,
    Contains,
    Length,
    Keys,
    Elements,
    /// By a JSONPath: every value, the first, the first if it is a string.
    PathAll,
    PathFirst,
    PathText,
}

/// All functions by name.
const FUNCTIONS: [(&str, Gives); 14] = [
    ("json_get", Gives::Json),
    ("json_get_json", Gives::Json),
    ("json_as_text", Gives::Text),
    ("json_get_str", Gives::TextOnly),
    ("json_get_int", Gives::Int),
    ("json_get_float", Gives::Float),
    ("json_get_bool", Gives::Bool),
    ("json_get_array", Gives::Elements),
    ("json_contains", Gives::Contains),
    ("json_length", Gives::Length),
    ("json_object_keys", Gives::Keys),
    ("extract_json", Gives::PathAll),
    ("get_first_json_object", Gives::PathFirst),
    ("extract_json_string", Gives::PathText),
];

/// `json_get(json, key or index, ...)` and its kin.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    name: &'static str,
    gives: Gives,
    signature: Signature,
}

/// The functions.
pub fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    FUNCTIONS.iter().map(|(name, _)| function(name))
}

fn function(wanted: &str) -> Arc<ScalarUDF> {
    let (name, gives) =
        FUNCTIONS.iter().find(|(name, _)| *name == wanted).copied().unwrap_or(("json_get", Gives::Json));
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(JsonFunction { name, gives, signature }))
}

impl JsonFunction {
    fn takes_path(&self) -> bool {
        matches!(self.gives, Gives::PathAll | Gives::PathFirst | Gives::PathText)
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let form = if self.takes_path() { "(json, '$.path')" } else { "(json, key or index, ...)" };
        if given.is_empty() || self.takes_path() && given.len() != 2 {
            return plan_err!(
                "wrong number of arguments: {} given, but the function is {}{form}",
                given.len(),
                self.name
            );
        }
        let coerced = given.iter().enumerate().map(|(i, t)| match t {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(DataType::Utf8),
            t if i > 0 && t.is_integer() && !self.takes_path() => Ok(DataType::Int64),
            _ => plan_err!("wrong types of arguments: the function is {}{form}", self.name),
        });
        coerced.collect()
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        let texts = || DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        Ok(match self.gives {
            Gives::Json | Gives::Text | Gives::TextOnly | Gives::PathFirst | Gives::PathText => DataType::Utf8,
            Gives::Int | Gives::Length => DataType::Int64,
            Gives::Float => DataType::Float64,
            Gives::Bool | Gives::Contains => DataType::Boolean,
            Gives::Keys | Gives::Elements | Gives::PathAll => texts(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        if self.takes_path() {
            match args.scalar_arguments.get(1) {
                Some(Some(ScalarValue::Utf8(Some(text)))) => {
                    if let Err(message) = path::parse(text) {
                        return plan_err!("{message}");
                    }
                }
                _ => return plan_err!("{}: the JSONPath must be a literal such as '$.a.b[0]'", self.name),
            }
        }
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let all_scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let Some((json, steps)) = args.args.split_first() else { return exec_err!("{} without arguments", self.name) };
        let json = json.to_array(rows)?;
        let steps = Steps::new(steps, rows, self.takes_path())?;
        let values = self.evaluate(json.as_string::<i32>(), &steps)?;
        if all_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?));
        }
        Ok(ColumnarValue::Array(values))
    }
}

/// The way to the value: the same in every row, as it is nearly always, or by row.
enum Steps {
    Fixed(Option<Vec<Step>>),
    ByRow(Vec<ArrayRef>),
}

impl Steps {
    fn new(given: &[ColumnarValue], rows: usize, is_path: bool) -> DfResult<Self> {
        if let (true, Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))))) = (is_path, given.first()) {
            return Ok(Self::Fixed(path::parse(text).ok()));
        }
        let fixed = given.iter().map(|g| match g {
            ColumnarValue::Scalar(ScalarValue::Utf8(key)) => Some(key.clone().map(Step::Key)),
            ColumnarValue::Scalar(ScalarValue::Int64(index)) => Some(index.map(Step::Index)),
            _ => None,
        });
        match fixed.collect::<Option<Vec<_>>>() {
            Some(steps) => Ok(Self::Fixed(steps.into_iter().collect())),
            None => Ok(Self::ByRow(given.iter().map(|g| g.to_array(rows)).collect::<DfResult<_>>()?)),
        }
    }

    /// `None`: a step is NULL.
    fn of_row(&self, row: usize) -> Option<Vec<Step>> {
        let Self::ByRow(arrays) = self else { return None };
        let step = |a: &ArrayRef| match a.data_type() {
            _ if a.is_null(row) => None,
            DataType::Utf8 => Some(Step::Key(a.as_string::<i32>().value(row).to_string())),
            _ => a.as_primitive_opt::<Int64Type>().map(|a: &Int64Array| Step::Index(a.value(row))),
        };
        arrays.iter().map(step).collect()
    }
}

impl JsonFunction {
    fn evaluate(&self, json: &StringArray, steps: &Steps) -> DfResult<ArrayRef> {
        let mut out = Column::new(self.gives, json.len());
        for row in 0..json.len() {
            let by_row;
            let steps = match steps {
                Steps::Fixed(steps) => steps.as_deref(),
                Steps::ByRow(_) => {
                    by_row = steps.of_row(row);
                    by_row.as_deref()
                }
            };
            let json = (!json.is_null(row)).then(|| json.value(row));
            match (json, steps) {
                (Some(json), Some(steps)) => out.push(self.gives, json, steps),
                _ => out.push_null(),
            }
        }
        Ok(out.finish())
    }
}

/// The column being made.
enum Column {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    List(ListBuilder<StringBuilder>),
}

impl Column {
    fn new(gives: Gives, rows: usize) -> Self {
        match gives {
            Gives::Int | Gives::Length => Self::Int(Int64Builder::with_capacity(rows)),
            Gives::Float => Self::Float(Float64Builder::with_capacity(rows)),
            Gives::Bool | Gives::Contains => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Gives::Keys | Gives::Elements | Gives::PathAll => Self::List(ListBuilder::new(StringBuilder::new())),
            _ => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Text(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Float(b) => b.append_null(),
            Self::Bool(b) => b.append_null(),
            Self::List(b) => b.append_null(),
        }
    }

    fn push(&mut self, gives: Gives, json: &str, steps: &[Step]) {
        let value = || scan::find(json, steps);
        match self {
            Self::Text(b) => match gives {
                Gives::Json | Gives::PathFirst => {
                    b.append_option(value().filter(|v| scan::kind(v) != Some(Kind::Null)))
                }
                Gives::Text => b.append_option(value().and_then(scan::as_text)),
                _ => b.append_option(value().filter(|v| scan::kind(v) == Some(Kind::Text)).and_then(scan::as_text)),
            },
            Self::Int(b) if gives == Gives::Length => {
                b.append_option(value().and_then(scan::length).and_then(|n| i64::try_from(n).ok()));
            }
            Self::Int(b) => b.append_option(value().and_then(|v| v.parse().ok())),
            Self::Float(b) => {
                b.append_option(value().filter(|v| scan::kind(v) == Some(Kind::Number)).and_then(|v| v.parse().ok()))
            }
            Self::Bool(b) if gives == Gives::Contains => b.append_value(value().is_some()),
            Self::Bool(b) => b.append_option(value().and_then(|v| v.parse().ok())),
            Self::List(b) => {
                let mut found = Vec::new();
                let whole = match gives {
                    Gives::PathAll => {
                        scan::find_all(json, steps, &mut found);
                        scan::find(json, &[]).map(|_| ())
                    }
                    Gives::Keys => value().filter(|v| scan::kind(v) == Some(Kind::Object)).and_then(|v| {
                        scan::each(v, |key, _, _| {
                            found.extend(key);
                            true
                        })
                    }),
                    _ => value().filter(|v| scan::kind(v) == Some(Kind::Array)).and_then(|v| {
                        scan::each(v, |_, _, element| {
                            found.push(element);
                            true
                        })
                    }),
                };
                for text in found.iter().filter(|_| whole.is_some()) {
                    match gives {
                        Gives::Keys => b.values().append_value(scan::unescaped(text)),
                        _ => b.values().append_value(text),
                    }
                }
                b.append(whole.is_some());
            }
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Int(mut b) => Arc::new(b.finish()),
            Self::Float(mut b) => Arc::new(b.finish()),
            Self::Bool(mut b) => Arc::new(b.finish()),
            Self::List(mut b) => Arc::new(b.finish()),
        }
    }
}

/// `->`, `->>` and `?` as functions.
#[derive(Debug)]
pub struct JsonOperators;

impl ExprPlanner for JsonOperators {
    fn plan_binary_op(&self, e: RawBinaryExpr, _schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let name = match e.op {
            BinaryOperator::Arrow => "json_get",
            BinaryOperator::LongArrow => "json_as_text",
            BinaryOperator::Question => "json_contains",
            _ => return Ok(PlannerResult::Original(e)),
        };
        // A chain is one way down, walked at once.
        let (json, mut way) = match e.left {
            Expr::ScalarFunction(f) if f.func.name() == "json_get" && f.args.len() > 1 => {
                let mut args = f.args.into_iter();
                (args.next().unwrap_or(Expr::Literal(ScalarValue::Utf8(None), None)), args.collect())
            }
            other => (other, Vec::new()),
        };
        way.push(e.right);
        way.insert(0, json);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction { func: function(name), args: way })))
    }
}

/// `CAST(json -> 'a' AS INT)` reads a number, `json -> 'a' = 'x'` a text: the value, not its JSON.
#[derive(Debug)]
pub struct JsonTypes;

impl FunctionRewrite for JsonTypes {
    fn name(&self) -> &str {
        "json_types"
    }

    fn rewrite(&self, e: Expr, schema: &DFSchema, _options: &ConfigOptions) -> DfResult<Transformed<Expr>> {
        Ok(match e {
            Expr::Cast(mut c) => {
                let changed = typed(&mut c.expr, c.field.data_type());
                Transformed::new_transformed(Expr::Cast(c), changed)
            }
            Expr::TryCast(mut c) => {
                let changed = typed(&mut c.expr, c.field.data_type());
                Transformed::new_transformed(Expr::TryCast(c), changed)
            }
            Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if is_comparison(op) => {
                let changed = match (is_json_get(&left), is_json_get(&right)) {
                    (true, false) => typed(&mut left, &right.get_type(schema)?),
                    (false, true) => typed(&mut right, &left.get_type(schema)?),
                    _ => false,
                };
                Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
            }
            other => Transformed::no(other),
        })
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator as O;
    matches!(op, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn is_json_get(e: &Expr) -> bool {
    matches!(e, Expr::ScalarFunction(f) if f.func.name() == "json_get")
}

/// Makes a `json_get` give what a type is read from; whether it did.
fn typed(e: &mut Expr, wanted: &DataType) -> bool {
    let Expr::ScalarFunction(f) = e else { return false };
    let name = match wanted {
        _ if f.func.name() != "json_get" => return false,
        DataType::Boolean => "json_get_bool",
        t if t.is_integer() => "json_get_int",
        t if t.is_floating() || t.is_decimal() => "json_get_float",
        DataType::Null => return false,
        _ => "json_as_text",
    };
    f.func = function(name);
    true
}
