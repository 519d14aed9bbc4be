//! A streaming query as a small tree of our operators holding DataFusion expressions.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::operators::join::lookup::Lookup;
use crate::operators::spec::{Properties, Spec, Warning};

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
    /// An operator over the rows of others.
    Operator {
        /// What it does.
        spec: Arc<dyn Spec>,
        /// Where its rows come from, by port.
        inputs: Vec<Plan>,
    },
}

impl Plan {
    /// An operator over one input.
    pub fn over(self, spec: impl Spec + 'static) -> Self {
        Self::Operator { spec: Arc::new(spec), inputs: vec![self] }
    }

    /// An operator over several inputs.
    pub fn of(spec: impl Spec + 'static, inputs: Vec<Plan>) -> Self {
        Self::Operator { spec: Arc::new(spec), inputs }
    }

    /// The output columns.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Scan { schema, .. } => schema.clone(),
            Self::Operator { spec, .. } => spec.schema(),
        }
    }

    /// What is known of the rows.
    pub fn properties(&self) -> Properties {
        match self {
            Self::Scan { .. } => Properties::default(),
            Self::Operator { spec, inputs } => {
                spec.properties(&inputs.iter().map(Self::properties).collect::<Vec<_>>())
            }
        }
    }

    /// The direct inputs.
    pub fn inputs(&self) -> &[Plan] {
        match self {
            Self::Scan { .. } => &[],
            Self::Operator { inputs, .. } => inputs,
        }
    }

    /// The columns of all rows that can be late for some operator, each operator's.
    pub fn late_inputs(&self) -> Vec<SchemaRef> {
        let mut all: Vec<SchemaRef> = self.inputs().iter().flat_map(Self::late_inputs).collect();
        if let Self::Operator { spec, inputs } = self
            && spec.has_late_rows()
        {
            all.extend(inputs.iter().map(Self::schema));
        }
        all
    }

    /// The tables that must be loaded before the pipeline starts.
    pub fn lookups(&self) -> Vec<Lookup> {
        let mut all: Vec<Lookup> = self.inputs().iter().flat_map(Self::lookups).collect();
        if let Self::Operator { spec, .. } = self {
            all.extend(spec.lookup().cloned());
        }
        all
    }

    /// The source tables read, sorted, each once.
    pub fn sources(&self) -> Vec<String> {
        let mut all: Vec<String> = match self {
            Self::Scan { table, .. } => vec![table.clone()],
            other => other.inputs().iter().flat_map(Self::sources).collect(),
        };
        all.sort();
        all.dedup();
        all
    }

    /// Whether an expression may fail on some row.
    pub fn may_fail(&self) -> bool {
        let own = match self {
            Self::Scan { .. } => false,
            Self::Operator { spec, inputs } => inputs.iter().any(|i| spec.may_fail(&i.schema())),
        };
        own || self.inputs().iter().any(Self::may_fail)
    }

    /// Why the state of some operator may grow for ever.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut all: Vec<Warning> = self.inputs().iter().flat_map(Self::warnings).collect();
        if let Self::Operator { spec, .. } = self {
            all.extend(spec.warning());
        }
        all
    }

    /// One line that says what this operator does. Equal plans have equal lines: checkpoints name state by them.
    pub fn describe(&self) -> String {
        match self {
            Self::Scan { table, schema, .. } => {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                format!("scan {table} [{}]", names.join(", "))
            }
            Self::Operator { spec, .. } => spec.describe(),
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
        if let Self::Operator { spec, .. } = self
            && !spec.state().is_empty()
        {
            let _ = writeln!(text, "{:width$}  state: {}", "", spec.state(), width = depth * 2);
        }
        for input in self.inputs() {
            input.write_tree(depth + 1, text);
        }
    }
}
