//! Every function of DataFusion gives in a pipeline what it gives in a batch, or is refused by name. The lists here are held
//! against DataFusion's registry: a function that is in neither fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::json::LineDelimitedWriter;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::Volatility;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use millstream::engine::{RunOptions, check};
use millstream_tests::run;
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// A call of each scalar function, over the columns of [`rows`].
const SCALARS: &str = "\
abs(i) arrow_cast(i,'Int32') arrow_typeof(f) arrow_try_cast(t,'Int64') ascii(t) bit_length(t) btrim(t,'a') ceil(f) \
character_length(t) chr(n+64) coalesce(i,n) concat(t,i) concat_ws('-',t,i) contains(t,'a') cot(f) date_bin(INTERVAL'1hour',ts) \
date_part('hour',ts) date_trunc('hour',ts) decode(encode(t,'hex'),'hex')=t digest(t,'sha256') encode(t,'base64') ends_with(t,'a') \
factorial(n) find_in_set(t,'a,b,abc') floor(f) from_unixtime(n*1000) gcd(i,6) get_field(struct(i),'c0') greatest(i,n) initcap(t) \
isnan(f) iszero(f) lcm(n,6) least(i,n) left(t,2) levenshtein(t,'abd') log(2,f*f+1) lower(t) lpad(t,5,'x') ltrim(t) \
make_date(2024,1,n) make_time(n,2,3) md5(t) named_struct('a',i,'b',t) nanvl(f,1.0) nullif(i,5) nvl(i,n) nvl2(i,n,3) octet_length(t) \
overlay(t,'zz',1,2) pi() power(n,2) regexp_count(t,'a') regexp_instr(t,'b') regexp_like(t,'^a') regexp_match(t,'(a)(b)') \
regexp_replace(t,'a','_','g') repeat(t,2) replace(t,'a','o') reverse(t) right(t,2) round(f,1) rpad(t,5,'x') rtrim(t) signum(f) \
split_part(t,'b',1) starts_with(t,'a') strpos(t,'b') struct(i,t) substr(t,2) substr_index(t,'b',1) to_char(ts,'%Y-%m') \
to_date('2024-01-0'||n) to_hex(n) to_local_time(ts) to_time('10:11:1'||n) to_timestamp(n) to_timestamp_micros(i) \
to_timestamp_millis(i) to_timestamp_nanos(i) to_timestamp_seconds(n) to_unixtime(ts) translate(t,'ab','xy') trunc(f) upper(t) \
sqrt(f*f) cbrt(f) exp(n) ln(f*f+1) log2(f*f+1) log10(f*f+1) sin(f) cos(f) tan(f) asin(f/100) acos(f/100) atan(f) atan2(f,2) \
sinh(n) cosh(n) tanh(f) asinh(f) acosh(f*f+1) atanh(f/100) degrees(f) radians(f) sha224(t) sha256(t) sha384(t) sha512(t) \
array_append(l,i) array_prepend(i,l) array_concat(l,l) array_dims(l) array_distance(g,g) array_distinct(l) array_element(l,1) \
array_except(l,make_array(1)) array_has(l,1) array_has_all(l,make_array(1)) array_has_any(l,make_array(1,9)) \
array_intersect(l,make_array(1,2)) array_length(l) array_max(l) array_min(l) array_ndims(l) array_pop_back(l) array_pop_front(l) \
array_position(l,2) array_positions(l,2) array_remove(l,2) array_remove_all(l,2) array_remove_n(l,2,1) array_repeat(i,2) \
array_replace(l,2,7) array_replace_all(l,2,7) array_replace_n(l,2,7,1) array_resize(l,3,0) array_reverse(l) array_slice(l,1,2) \
array_sort(l) array_to_string(l,',') array_union(l,make_array(9)) arrays_zip(l,l) cardinality(l) empty(l) \
flatten(make_array(l,l)) make_array(i,n) range(n) generate_series(1,n) string_to_array(t,'b') map(make_array('a'),make_array(i)) \
map_entries(map(make_array('a'),make_array(i))) map_extract(map(make_array('a'),make_array(i)),'a') \
map_keys(map(make_array('a'),make_array(i))) map_values(map(make_array('a'),make_array(i))) array_any_value(l) array_add(g,g) \
array_avg(g) array_compact(l) array_normalize(g) array_product(g) array_scale(g,2.0) array_subtract(g,g) array_sum(g) \
cosine_distance(g,g) inner_product(g,g) \
cast_to_type(i,t) try_cast_to_type(t,i) arrow_metadata(i) arrow_field(i) with_metadata(i,'a','b') version()";

/// A call of each aggregate function.
const AGGREGATES: &str = "\
any_value(n) approx_distinct(i) approx_median(n) approx_percentile_cont(0.5)WITHINGROUP(ORDERBYn) \
approx_percentile_cont_with_weight(n,0.5)WITHINGROUP(ORDERBYn) array_agg(i) avg(f) bit_and(n) bit_or(n) bit_xor(n) \
bool_and(b) bool_or(b) corr(f,n) count(i) covar_pop(f,n) covar_samp(f,n) first_value(i) last_value(i) max(i) median(f) min(t) \
nth_value(i,2) percentile_cont(0.5)WITHINGROUP(ORDERBYf) regr_avgx(f,n) regr_avgy(f,n) regr_count(f,n) regr_intercept(f,n) \
regr_r2(f,n) regr_slope(f,n) regr_sxx(f,n) regr_sxy(f,n) regr_syy(f,n) stddev(f) stddev_pop(f) string_agg(t,',') sum(f) var(f) \
var_pop(f) grouping(k) count(DISTINCTn) sum(DISTINCTn) array_agg(DISTINCTn)";

/// A call of each function that only `OVER` has.
const WINDOWS: &str = "row_number() rank() dense_rank() percent_rank() cume_dist() ntile(2) lag(i) lead(i) first_value(i) last_value(i) \
nth_value(i,2)";

/// Functions that are refused, with what is said.
const REFUSED: [(&str, &str); 11] = [
    ("now()", "now would give something else at each replay"),
    ("current_date()", "current_date would give something else at each replay"),
    ("current_time()", "current_time would give something else at each replay"),
    ("random()", "random would give something else at each replay"),
    ("uuid()", "uuid would give something else at each replay"),
    ("input_file_name()", "input_file_name would give something else at each replay"),
    ("file_row_index()", "file_row_index would give something else at each replay"),
    ("array_any_match(l, 1)", "there is no function 'array_any_match'"),
    ("array_filter(l, 1)", "there is no function 'array_filter'"),
    ("array_transform(l, 1)", "there is no function 'array_transform'"),
    ("array_first(l, 1)", "there is no function 'array_first'"),
];

/// Calls as written above, where words that belong together have no blank between them.
fn calls(list: &str) -> Vec<String> {
    let apart = [
        ("INTERVAL'1hour'", "INTERVAL '1 hour'"),
        ("WITHINGROUP(ORDERBY", " WITHIN GROUP (ORDER BY "),
        ("DISTINCT", "DISTINCT "),
    ];
    list.split(' ').map(|call| apart.iter().fold(call.to_string(), |text, (from, to)| text.replace(from, to))).collect()
}

fn name_of(call: &str) -> &str {
    call.split('(').next().unwrap_or(call)
}

/// The names of one function: its own and its aliases.
type Names = Vec<String>;

/// Which functions of a registry have no name among the calls.
fn missing(registry: Vec<Names>, lists: &[&str]) -> Vec<Names> {
    let refused = REFUSED.iter().map(|(call, _)| (*call).to_string());
    let all: Vec<String> = lists.iter().flat_map(|list| calls(list)).chain(refused).collect();
    let called: BTreeSet<&str> = all.iter().map(|call| name_of(call)).collect();
    registry.into_iter().filter(|names| !names.iter().any(|n| called.contains(n.as_str()))).collect()
}

fn names(name: &str, aliases: &[String]) -> Names {
    std::iter::once(name.to_string()).chain(aliases.iter().cloned()).collect()
}

#[test]
fn every_function_of_datafusion_is_in_a_list() {
    let scalars = SessionStateDefaults::default_scalar_functions();
    let of_union = |names: &Names| names.iter().any(|n| n.starts_with("union_"));
    let left: Vec<Names> = missing(scalars.iter().map(|f| names(f.name(), f.aliases())).collect(), &[SCALARS]);
    // A table has no column of a union.
    assert_eq!(left.into_iter().filter(|n| !of_union(n)).collect::<Vec<_>>(), Vec::<Names>::new());
    let aggregates = SessionStateDefaults::default_aggregate_functions();
    assert_eq!(
        missing(aggregates.iter().map(|f| names(f.name(), f.aliases())).collect(), &[AGGREGATES]),
        Vec::<Names>::new()
    );
    let of_lambdas = SessionStateDefaults::default_higher_order_functions();
    assert_eq!(missing(of_lambdas.iter().map(|f| names(f.name(), f.aliases())).collect(), &[]), Vec::<Names>::new());
    let windows = SessionStateDefaults::default_window_functions();
    assert_eq!(
        missing(windows.iter().map(|f| names(f.name(), f.aliases())).collect(), &[WINDOWS]),
        Vec::<Names>::new()
    );
}

#[test]
fn what_is_not_of_the_log_is_refused() {
    for f in SessionStateDefaults::default_scalar_functions() {
        let told = REFUSED.iter().any(|(call, says)| name_of(call) == f.name() && says.contains("at each replay"));
        assert_eq!(f.signature().volatility != Volatility::Immutable, told, "{}", f.name());
    }
    for (call, says) in REFUSED {
        let sql = format!("{}SELECT {call} AS x FROM t;\n", source());
        let told: Vec<String> = check(&sql, "f.sql").iter().map(ToString::to_string).collect();
        assert!(told.join("\n").contains(says), "{call}: {told:?}");
        assert!(told.join("\n").contains("\n  fix: "), "{call}: {told:?}");
    }
}

fn rows() -> RecordBatch {
    let numbers = |from: [Option<i64>; 8]| -> ArrayRef { Arc::new(Int64Array::from(from.to_vec())) };
    let ts = (0..8).map(|i| Some(1_704_067_200_000_000_000 + i * 611_000_000_000));
    let lists = [Some(vec![Some(1), Some(2), Some(2)]), Some(vec![Some(3)]), Some(vec![]), None];
    let floats = [Some(vec![Some(1.5), Some(2.0)]), Some(vec![Some(0.5), Some(4.0)])];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", numbers([1, 2, 3, 4, 5, 6, 7, 8].map(Some))),
        ("k", Arc::new(StringArray::from(vec!["x", "y", "x", "y", "x", "y", "x", "z"]))),
        ("i", numbers([Some(5), Some(-3), None, Some(12), Some(0), Some(7), Some(7), None])),
        ("n", numbers([1, 2, 3, 4, 5, 6, 7, 8].map(Some))),
        (
            "f",
            Arc::new(Float64Array::from(vec![
                Some(0.5),
                Some(-2.25),
                Some(3.75),
                None,
                Some(10.0),
                Some(1.0),
                Some(8.5),
                Some(2.0),
            ])),
        ),
        (
            "t",
            Arc::new(StringArray::from(vec![
                Some("abc"),
                Some("b"),
                None,
                Some("aab a"),
                Some(""),
                Some("Über"),
                Some("12"),
                Some("ab"),
            ])),
        ),
        (
            "b",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
                Some(true),
                Some(false),
                Some(true),
                Some(true),
            ])),
        ),
        ("ts", Arc::new(ts.collect::<TimestampNanosecondArray>())),
        ("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists.clone().into_iter().chain(lists)))),
        ("g", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(floats.into_iter().cycle().take(8)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true))).unwrap()
}

fn source() -> String {
    "CREATE TABLE t (id BIGINT, k TEXT, i BIGINT, n BIGINT, f DOUBLE, t TEXT, b BOOLEAN, ts TIMESTAMP, l BIGINT[], g DOUBLE[],
       WATERMARK FOR ts) WITH (connector = 'single_file', format = 'parquet', path = '$dir/t.parquet');\n"
        .to_string()
}

/// The rows of a query as a batch, as JSON.
fn batch(dir: &Path, query: &str) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let path = dir.join("t.parquet").display().to_string();
        context.register_parquet("t", &path, ParquetReadOptions::default()).await.unwrap();
        let rows = context.sql(query).await.unwrap_or_else(|e| panic!("{query}: {e}")).collect().await;
        let rows = rows.unwrap_or_else(|e| panic!("{query}: {e}"));
        let mut text = Vec::new();
        let mut writer = LineDelimitedWriter::new(&mut text);
        rows.iter().for_each(|rows| writer.write(rows).unwrap());
        writer.finish().unwrap();
        lines(&String::from_utf8(text).unwrap())
    })
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The rows that a file of changes adds up to.
fn net(text: &str) -> Vec<Value> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for change in lines(text) {
        for (side, sign) in [("before", -1), ("after", 1)] {
            if change[side].is_object() {
                *counts.entry(change[side].to_string()).or_default() += sign;
            }
        }
    }
    let rows = counts.into_iter().flat_map(|(row, n)| vec![serde_json::from_str(&row).unwrap(); n as usize]);
    rows.collect()
}

/// Floats to twelve digits: states are added in another order.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => Value::String(format!("{:.11e}", n.as_f64().unwrap())),
        Value::Array(all) => Value::Array(all.iter().map(rounded).collect()),
        Value::Object(all) => {
            Value::Object(all.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), rounded(v))).collect())
        }
        other => other.clone(),
    }
}

/// Each query with its name in a pipeline of one run, compared with the batch `of` it.
fn compare(queries: &[(String, String)], of: impl Fn(&str) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("t.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows().schema(), None).unwrap();
    writer.write(&rows()).unwrap();
    writer.close().unwrap();
    let mut sql = source();
    let mut refused = Vec::new();
    for (at, (call, query)) in queries.iter().enumerate() {
        let errors = check(&format!("{}{query};", source()), "f.sql");
        if errors.is_empty() {
            let options = format!("connector = 'single_file', format = 'debezium_json', path = '$dir/{at}.json'");
            sql.push_str(&format!("CREATE TABLE q{at} WITH ({options});\nINSERT INTO q{at} {query};\n"));
        } else {
            refused.push(format!("{call}: {}", errors[0]));
        }
    }
    assert!(refused.is_empty(), "{} functions do not run:\n{}", refused.len(), refused.join("\n"));
    for workers in [1, 3] {
        (0..queries.len()).for_each(|at| drop(std::fs::remove_file(dir.path().join(format!("{at}.json")))));
        let summary =
            run(&sql, dir.path(), &RunOptions { workers, ..RunOptions::default() }).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((summary.rows_late, summary.rows_rejected), (0, 0));
        let mut wrong = Vec::new();
        for (at, (call, query)) in queries.iter().enumerate() {
            let text = std::fs::read_to_string(dir.path().join(format!("{at}.json"))).unwrap();
            let sorted = |rows: Vec<Value>| {
                let mut rows: Vec<String> = rows.iter().map(|v| rounded(v).to_string()).collect();
                rows.sort();
                rows
            };
            let (ours, theirs) = (sorted(net(&text)), sorted(batch(dir.path(), &of(query))));
            if ours != theirs {
                wrong.push(format!("{call}\n  streamed {ours:?}\n  batch    {theirs:?}"));
            }
        }
        assert!(wrong.is_empty(), "{workers} workers: {} functions differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn scalar_functions_give_what_they_give_in_a_batch() {
    let query = |call: String| (call.clone(), format!("SELECT id, {call} AS x FROM t"));
    compare(&calls(SCALARS).into_iter().map(query).collect::<Vec<_>>(), str::to_string);
}

#[test]
fn aggregate_functions_give_what_they_give_in_a_batch() {
    let query = |call: String| (call.clone(), format!("SELECT k, {call} AS x FROM t GROUP BY k"));
    compare(&calls(AGGREGATES).into_iter().map(query).collect::<Vec<_>>(), str::to_string);
}

#[test]
fn aggregate_functions_of_windows_give_what_they_give_in_a_batch() {
    const WINDOW: &str = "tumble(INTERVAL '30 minutes')";
    let query = |call: String| (call.clone(), format!("SELECT k, {call} AS x FROM t GROUP BY k, {WINDOW}"));
    let of = |query: &str| query.replace(WINDOW, "date_bin(INTERVAL '30 minutes', ts)");
    compare(&calls(AGGREGATES).into_iter().map(query).collect::<Vec<_>>(), of);
}

#[test]
fn over_functions_give_what_they_give_in_a_batch() {
    let all = calls(WINDOWS).into_iter().chain(calls("sum(i) count(i) min(i) max(f) avg(f) stddev(f) array_agg(i)"));
    let query =
        |call: String| (call.clone(), format!("SELECT id, {call} OVER (PARTITION BY k ORDER BY ts) AS x FROM t"));
    compare(&all.map(query).collect::<Vec<_>>(), str::to_string);
}
