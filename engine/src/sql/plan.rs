//! A streaming query as a small tree of our operators holding DataFusion expressions.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;

use crate::operators::accumulate::Aggregation;
use crate::operators::window::Windows;

/// One operator and its inputs.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Some columns of a source table.
    Scan {
        /// The table.
        table: String,
        /// Indices into its columns.
        columns: Vec<usize>,
        /// Those columns.
        schema: SchemaRef,
    },
    /// Computed columns.
    Project {
        /// The rows.
        input: Box<Plan>,
        /// One per column.
        expressions: Vec<Arc<dyn PhysicalExpr>>,
        /// The columns.
        schema: SchemaRef,
    },
    /// The rows for which a predicate holds.
    Filter {
        /// The rows.
        input: Box<Plan>,
        /// The predicate.
        predicate: Arc<dyn PhysicalExpr>,
    },
    /// A tumbling or hopping window aggregate.
    Window {
        /// The rows.
        input: Box<Plan>,
        /// Keys and functions.
        aggregation: Arc<Aggregation>,
        /// Width and slide.
        windows: Windows,
        /// The window's place among the group columns.
        window_at: usize,
        /// The columns.
        schema: SchemaRef,
    },
    /// A session window aggregate.
    Session {
        /// The rows.
        input: Box<Plan>,
        /// Keys and functions.
        aggregation: Arc<Aggregation>,
        /// The gap in nanoseconds.
        gap: i64,
        /// The window's place among the group columns.
        window_at: usize,
        /// The columns.
        schema: SchemaRef,
    },
    /// All rows of all inputs.
    Union {
        /// The inputs, with the same columns.
        inputs: Vec<Plan>,
        /// The columns.
        schema: SchemaRef,
    },
}

impl Plan {
    /// The output columns.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Filter { input, .. } => input.schema(),
            Self::Scan { schema, .. }
            | Self::Project { schema, .. }
            | Self::Window { schema, .. }
            | Self::Session { schema, .. }
            | Self::Union { schema, .. } => schema.clone(),
        }
    }

    /// The direct inputs.
    pub fn inputs(&self) -> Vec<&Plan> {
        match self {
            Self::Scan { .. } => Vec::new(),
            Self::Union { inputs, .. } => inputs.iter().collect(),
            Self::Project { input, .. }
            | Self::Filter { input, .. }
            | Self::Window { input, .. }
            | Self::Session { input, .. } => vec![input],
        }
    }

    /// The source tables read, sorted, each once.
    pub fn sources(&self) -> Vec<String> {
        let mut all: Vec<String> = match self {
            Self::Scan { table, .. } => vec![table.clone()],
            other => other.inputs().iter().flat_map(|i| i.sources()).collect(),
        };
        all.sort();
        all.dedup();
        all
    }

    /// One line that says what this operator does. Equal plans have equal lines: checkpoints name state by them.
    pub fn describe(&self) -> String {
        match self {
            Self::Scan { table, schema, .. } => format!("scan {table} [{}]", names(schema)),
            Self::Project { expressions, schema, .. } => {
                let columns: Vec<String> = expressions
                    .iter()
                    .zip(schema.fields())
                    .map(|(e, f)| {
                        if e.to_string().split('@').next() == Some(f.name()) {
                            f.name().clone()
                        } else {
                            format!("{e} AS {}", f.name())
                        }
                    })
                    .collect();
                format!("project {}", columns.join(", "))
            }
            Self::Filter { predicate, .. } => format!("filter {predicate}"),
            Self::Window { aggregation, windows, .. } => {
                let window = if windows.slide == windows.width {
                    format!("tumble {}", show_duration(windows.width))
                } else {
                    format!("hop {} every {}", show_duration(windows.width), show_duration(windows.slide))
                };
                format!("{window} {}", describe_aggregation(aggregation))
            }
            Self::Session { aggregation, gap, .. } => {
                format!("session gap {} {}", show_duration(*gap), describe_aggregation(aggregation))
            }
            Self::Union { inputs, .. } => format!("union of {}", inputs.len()),
        }
    }

    /// What state the operator keeps and until when; empty if none.
    pub fn state(&self) -> String {
        match self {
            Self::Window { windows, .. } => format!(
                "one row per key and {} slice, until the watermark passes the end of its last window",
                show_duration(windows.slice())
            ),
            Self::Session { gap, .. } => {
                format!("one row per open session, until the watermark is {} past its last event", show_duration(*gap))
            }
            _ => String::new(),
        }
    }

    /// The whole tree as text, root first.
    pub fn tree(&self) -> String {
        let mut text = String::new();
        self.write_tree(0, &mut text);
        text
    }

    fn write_tree(&self, depth: usize, text: &mut String) {
        let _ = writeln!(text, "{:width$}{}", "", self.describe(), width = depth * 2);
        let state = self.state();
        if !state.is_empty() {
            let _ = writeln!(text, "{:width$}  state: {state}", "", width = depth * 2);
        }
        for input in self.inputs() {
            input.write_tree(depth + 1, text);
        }
    }
}

fn describe_aggregation(a: &Aggregation) -> String {
    let keys: Vec<&str> = a.group_fields.iter().map(|f| f.name().as_str()).collect();
    let functions: Vec<String> = a
        .aggregates
        .iter()
        .map(|x| match &x.filter {
            Some(f) => format!("{} where {f}", x.function.name()),
            None => x.function.name().to_string(),
        })
        .collect();
    format!("by [{}] of [{}]", keys.join(", "), functions.join(", "))
}

fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// `90s`, `1500ms`: durations as logs and plans show them.
pub fn show_duration(nanoseconds: i64) -> String {
    for (unit, name) in [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ] {
        if nanoseconds % unit == 0 && nanoseconds != 0 {
            return format!("{}{name}", nanoseconds / unit);
        }
    }
    format!("{nanoseconds}ns")
}
