//! Functions that clients of PostgreSQL call and that the catalogue's crate has not.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use millstream::QueryLimits;

use super::command;

/// Functions about things that are not here: comments, sequences, indexes, rules, types by name. PostgreSQL's answer is NULL.
const ABOUT_NOTHING: [&str; 14] = [
    "col_description",
    "obj_description",
    "shobj_description",
    "pg_get_serial_sequence",
    "pg_get_indexdef",
    "pg_get_ruledef",
    "pg_get_triggerdef",
    "pg_get_viewdef",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_tablespace_location",
    "to_regtype",
    "to_regclass",
];

/// Functions that ask whether something is found without its schema. Whatever the catalogue lists is.
const VISIBLE: [&str; 11] = [
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_type_is_visible",
];

/// Functions that ask for a size, or for an encoding's number; it is not told here. PostgreSQL's answer is NULL.
const UNTOLD: [&str; 4] = ["pg_char_to_encoding", "pg_database_size", "pg_indexes_size", "pg_table_size"];

/// All of them.
pub fn all(limits: &QueryLimits) -> Vec<ScalarUDF> {
    let mut functions: Vec<ScalarUDF> = ABOUT_NOTHING.iter().map(|name| text_of(name, |_| Ok(null()))).collect();
    let yes = |_: &ScalarFunctionArgs| Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))));
    functions.extend(VISIBLE.iter().map(|name| of(name, DataType::Boolean, yes)));
    let untold = |_: &ScalarFunctionArgs| Ok(ColumnarValue::Scalar(ScalarValue::Int64(None)));
    functions.extend(UNTOLD.iter().map(|name| of(name, DataType::Int64, untold)));
    functions.push(text_of("pg_size_pretty", pg_size_pretty));
    functions.push(text_of("getdatabaseencoding", |_| Ok(text("UTF8".into()))));
    let version = format!("PostgreSQL {} (Millstream {})", command::SERVER_VERSION, env!("CARGO_PKG_VERSION"));
    functions.push(text_of("version", move |_| Ok(text(version.clone()))));
    let limits = limits.clone();
    functions.push(text_of("current_setting", move |arguments| {
        let Some(ColumnarValue::Scalar(name)) = arguments.args.first() else { return Ok(null()) };
        let name = name.try_as_str().flatten().unwrap_or("");
        command::setting(name, &limits).map(text).ok_or_else(|| unknown_setting(name))
    }));
    functions.push(text_of("json_build_object", json_build_object));
    functions
}

/// The error for a setting that is not there.
fn unknown_setting(name: &str) -> DataFusionError {
    DataFusionError::Execution(format!("there is no setting '{name}'"))
}

fn text(text: String) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)))
}

fn null() -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(None))
}

/// Bytes in the largest unit that leaves at least ten of them, as PostgreSQL writes them.
fn pg_size_pretty(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
    let Some(sizes) = columns.first() else { return Ok(null()) };
    let sizes = cast(sizes, &DataType::Int64)?;
    let sizes = sizes.as_primitive::<Int64Type>();
    let array: ArrayRef = Arc::new(sizes.iter().map(|bytes| bytes.map(pretty)).collect::<StringArray>());
    Ok(ColumnarValue::Array(array))
}

fn pretty(bytes: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value.abs() >= 10_240.0 && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{} {}", value.round(), units.get(unit).copied().unwrap_or("bytes"))
}

/// Keys and values in turn as the text of one JSON object.
fn json_build_object(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = ColumnarValue::values_to_arrays(&arguments.args)?;
    if columns.len() % 2 == 1 {
        return Err(DataFusionError::Execution("json_build_object takes keys and values in turn".into()));
    }
    let options = FormatOptions::default();
    let shown = columns.iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<Vec<_>, _>>()?;
    let rows = columns.first().map_or(arguments.number_rows, |c| c.len());
    let objects = (0..rows).map(|row| {
        let pairs = columns.chunks(2).zip(shown.chunks(2)).filter_map(|(columns, shown)| {
            let ([_, value], [key, formatted]) = (columns, shown) else { return None };
            let bare = value.data_type().is_numeric() || *value.data_type() == DataType::Boolean;
            let value = match value.is_null(row) {
                true => "null".to_string(),
                false if bare => formatted.value(row).to_string(),
                false => serde_json::Value::from(formatted.value(row).to_string()).to_string(),
            };
            Some(format!("{} : {value}", serde_json::Value::from(key.value(row).to_string())))
        });
        Some(format!("{{{}}}", pairs.collect::<Vec<_>>().join(", ")))
    });
    let array: ArrayRef = Arc::new(StringArray::from_iter(objects));
    Ok(ColumnarValue::Array(array))
}

type Body = Arc<dyn Fn(&ScalarFunctionArgs) -> Result<ColumnarValue> + Send + Sync>;

fn text_of(
    name: &'static str,
    body: impl Fn(&ScalarFunctionArgs) -> Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    of(name, DataType::Utf8, body)
}

fn of(
    name: &'static str,
    returns: DataType,
    body: impl Fn(&ScalarFunctionArgs) -> Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    let any = Signature::one_of(
        vec![datafusion::logical_expr::TypeSignature::VariadicAny, datafusion::logical_expr::TypeSignature::Nullary],
        Volatility::Stable,
    );
    ScalarUDF::from(Foreign { name, returns, signature: any, body: Arc::new(body) })
}

/// A function of any arguments.
struct Foreign {
    name: &'static str,
    returns: DataType,
    signature: Signature,
    body: Body,
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Foreign {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Foreign {}

impl std::hash::Hash for Foreign {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Foreign {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.body)(&arguments)
    }
}
