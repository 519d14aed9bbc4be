//! The functions that SQL can call: DataFusion's, the window functions, JSON, the calendar, `percentile_disc`, sketches, sets.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result as DfResult;
use datafusion::common::exec_err;
use datafusion::common::plan_err;
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    WindowUDF,
};
use datafusion::optimizer::analyzer::Analyzer;

use super::calendar::calendar_functions;
use super::json::{self, JsonOperators, JsonTypes};
use super::percentile_disc::percentile_disc_udaf;
use super::planner::ROW_TIME;
use super::sketch::{sketch_aggregates, sketch_percentile};
use super::sorted_set::sorted_set_udaf;
use super::text_set::{text_set_aggregates, text_set_scalars};
use crate::operators::window::window_type;

/// The window functions, with the number of arguments that they need; `tumble`, `hop` and `cumulate` may have one more, an offset.
pub const WINDOW_FUNCTIONS: [(&str, usize); 4] = [("tumble", 1), ("hop", 2), ("cumulate", 2), ("session", 1)];

/// What marks a join as one with versions: never called.
pub const AS_OF: &str = "__as_of";

type Scalars = BTreeMap<String, Arc<ScalarUDF>>;

/// DataFusion's scalar functions and ours, made when the first is asked for: making all of them is a fifth of the page faults
/// up to the first row of a program that needs none.
static GIVEN: LazyLock<Scalars> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    let given = SessionStateDefaults::default_scalar_functions().into_iter();
    given.chain(json::functions()).chain(own_scalars()).for_each(|f| add(&mut all, f));
    all
});

/// `OVER` functions, likewise.
static OVER: LazyLock<BTreeMap<String, Arc<WindowUDF>>> = LazyLock::new(|| {
    let given = SessionStateDefaults::default_window_functions();
    given.into_iter().map(|f| (f.name().to_string(), f)).collect()
});

/// All functions by name.
#[derive(Debug, Clone)]
pub struct Functions {
    /// Scalar functions beside [`GIVEN`], or in place of one of those.
    own_scalar: Scalars,
    /// Aggregate functions.
    pub aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    /// What gives operators such as `[...]` their meaning.
    pub planners: Vec<Arc<dyn ExprPlanner>>,
    /// What changes calls before anything else is known of a query.
    pub rewrites: Vec<Arc<dyn FunctionRewrite + Send + Sync>>,
    /// Planning options.
    pub options: Arc<ConfigOptions>,
}

/// Our scalar functions that batch queries have too.
pub fn own_scalars() -> Vec<Arc<ScalarUDF>> {
    calendar_functions().into_iter().chain([sketch_percentile()]).chain(text_set_scalars()).collect()
}

/// Our aggregate functions.
pub fn own_aggregates() -> Vec<Arc<AggregateUDF>> {
    let others = [percentile_disc_udaf(), sorted_set_udaf()];
    sketch_aggregates().into_iter().chain(others).chain(text_set_aggregates()).collect()
}

impl Default for Functions {
    fn default() -> Self {
        let mut functions = Self {
            own_scalar: BTreeMap::new(),
            aggregate: BTreeMap::new(),
            planners: SessionStateDefaults::default_expr_planners(),
            rewrites: vec![Arc::new(JsonTypes)],
            options: Arc::new(ConfigOptions::default()),
        };
        let windows = WINDOW_FUNCTIONS.iter().map(|(name, n)| Arc::new(ScalarUDF::from(WindowFunction::new(name, *n))));
        functions.planners.insert(0, Arc::new(JsonOperators));
        windows.for_each(|f| functions.add_scalar(f));
        let signature = Signature::variadic_any(Volatility::Volatile);
        functions.add_scalar(Arc::new(ScalarUDF::from(AsOfMark { signature })));
        functions.add_scalar(Arc::new(ScalarUDF::from(RowTime(Signature::nullary(Volatility::Volatile)))));
        for f in SessionStateDefaults::default_aggregate_functions().into_iter().chain(own_aggregates()) {
            functions.add_aggregate(f);
        }
        functions
    }
}

impl Functions {
    /// Adds the functions of an embedding program; one of the same name is replaced.
    pub fn add_all(&mut self, scalar: &[Arc<ScalarUDF>], aggregate: &[Arc<AggregateUDF>]) {
        scalar.iter().for_each(|f| self.add_scalar(f.clone()));
        aggregate.iter().for_each(|f| self.add_aggregate(f.clone()));
    }

    /// Adds a scalar function under its name and aliases.
    pub fn add_scalar(&mut self, f: Arc<ScalarUDF>) {
        add(&mut self.own_scalar, f);
    }

    /// A scalar function by its name or an alias.
    pub fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        // No name is both a scalar and an aggregate function, so all need not be made to find that one is not.
        let given = || if self.aggregate.contains_key(name) { None } else { GIVEN.get(name) };
        self.own_scalar.get(name).or_else(given).cloned()
    }

    /// An `OVER` function by its name.
    pub fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        OVER.get(name).cloned()
    }

    /// The names of all `OVER` functions.
    pub fn window_names(&self) -> Vec<String> {
        OVER.keys().cloned().collect()
    }

    /// The names of all scalar functions.
    pub fn scalar_names(&self) -> Vec<String> {
        let others = self.own_scalar.keys().filter(|name| !GIVEN.contains_key(*name));
        GIVEN.keys().chain(others).cloned().collect()
    }

    /// DataFusion's analysis of a plan, with our rewrites first.
    pub fn analyzer(&self) -> Analyzer {
        Analyzer { function_rewrites: self.rewrites.clone(), ..Analyzer::new() }
    }

    /// Whether a function of any kind has this name.
    pub fn has(&self, name: &str) -> bool {
        self.scalar(name).is_some() || self.aggregate.contains_key(name) || OVER.contains_key(name)
    }

    /// Adds an aggregate function under its name and aliases.
    pub fn add_aggregate(&mut self, f: Arc<AggregateUDF>) {
        for name in f.aliases().iter().chain([&f.name().to_string()]) {
            self.aggregate.insert(name.clone(), f.clone());
        }
    }
}

/// Adds a function under its name and aliases.
fn add(all: &mut Scalars, f: Arc<ScalarUDF>) {
    for name in f.aliases().iter().chain([&f.name().to_string()]) {
        all.insert(name.clone(), f.clone());
    }
}

/// `row_time()`: a mark that the planner replaces by a column, never called.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowTime(Signature);

impl ScalarUDFImpl for RowTime {
    fn name(&self) -> &str {
        ROW_TIME
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Nanosecond, None))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        exec_err!("row_time() is only allowed in a query over rows with an event time")
    }
}

/// `tumble(width)`, `hop(slide, width)`, `session(gap)`: marks in a GROUP BY, never called.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    name: &'static str,
    arguments: usize,
    signature: Signature,
}

impl WindowFunction {
    fn new(name: &'static str, arguments: usize) -> Self {
        // Volatile, so that no optimizer rule evaluates or merges it.
        let any = vec![TypeSignature::VariadicAny, TypeSignature::Nullary];
        Self { name, arguments, signature: Signature::one_of(any, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DfResult<DataType> {
        // `tumble(ts, width)`, as Flink writes it: the planner looks whether `ts` is the event time.
        let arguments = match arguments {
            [DataType::Timestamp(..), rest @ ..] => rest,
            all => all,
        };
        let intervals = arguments.iter().all(|a| matches!(a, DataType::Interval(_) | DataType::Duration(_)));
        let offset = usize::from(self.name != "session");
        if !intervals || !(self.arguments..=self.arguments + offset).contains(&arguments.len()) {
            let form = match self.name {
                "hop" => "hop(slide, width), such as hop(INTERVAL '10 seconds', INTERVAL '1 minute')",
                "cumulate" => "cumulate(step, width), such as cumulate(INTERVAL '1 hour', INTERVAL '1 day')",
                "session" => "session(gap), such as session(INTERVAL '30 minutes')",
                _ => "tumble(width), such as tumble(INTERVAL '10 seconds')",
            };
            return plan_err!("{} takes literal intervals: {form}", self.name);
        }
        Ok(window_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        exec_err!("{} is only allowed in GROUP BY", self.name)
    }
}

/// The mark of an as-of join.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsOfMark {
    signature: Signature,
}

impl ScalarUDFImpl for AsOfMark {
    fn name(&self) -> &str {
        AS_OF
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        exec_err!("an as-of join outside a pipeline")
    }
}
