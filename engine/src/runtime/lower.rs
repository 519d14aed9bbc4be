//! A plan to the graphs of threads.
//!
//! Stateless operators and the first, partial half of a windowed aggregate run in every worker; whatever must see all
//! rows runs once, in the final thread:
//!
//! ```text
//! source ─┬─> worker 0: scan, filter, project, partial ─┐
//!         └─> worker 1: scan, filter, project, partial ─┴─> final: merge, filter, project ──> sink
//! ```

use std::sync::Arc;

use super::Result;
use crate::message::Rows;
use crate::operators::filter::Filter;
use crate::operators::graph::{Graph, Next};
use crate::operators::merge::Merge;
use crate::operators::partial::Partial;
use crate::operators::project::Project;
use crate::operators::session::Session;
use crate::operators::{Operator, Output};
use crate::sql::plan::Plan;

/// The exit of the final graph that leads to the sink.
pub const SINK: usize = 0;

type Build = Arc<dyn Fn() -> Result<Box<dyn Operator>> + Send + Sync>;

struct Blueprint {
    build: Build,
    ports: usize,
    next: Next,
}

/// A pipeline's graphs, to be built once per worker and once for the final thread.
#[derive(Default)]
pub struct Blueprints {
    worker: Vec<Blueprint>,
    last: Vec<Blueprint>,
    /// Source tables and where their rows enter a worker's graph.
    pub entries: Vec<(String, Next)>,
    /// Where each exit of a worker's graph enters the final one.
    pub exits: Vec<Next>,
}

/// On which side of the exchange an operator's output is.
enum Side {
    Worker(usize),
    Final(usize),
}

impl Blueprints {
    /// Lowers a plan.
    pub fn new(plan: &Plan) -> Result<Self> {
        let mut all = Self::default();
        let root = all.lower(plan)?;
        all.connect_final(root, Next::Exit(SINK));
        Ok(all)
    }

    /// A worker's graph.
    pub fn worker(&self) -> Result<Graph> {
        build(&self.worker)
    }

    /// The final thread's graph.
    pub fn last(&self) -> Result<Graph> {
        build(&self.last)
    }

    /// How many stages the final graph has; their state goes into checkpoints.
    pub fn final_stages(&self) -> usize {
        self.last.len()
    }

    fn add_worker(&mut self, ports: usize, build: Build) -> usize {
        self.worker.push(Blueprint { build, ports, next: Next::Exit(0) });
        self.worker.len() - 1
    }

    fn add_final(&mut self, ports: usize, build: Build) -> usize {
        self.last.push(Blueprint { build, ports, next: Next::Exit(SINK) });
        self.last.len() - 1
    }

    /// Leads an output into the final graph at `to`.
    fn connect_final(&mut self, side: Side, to: Next) {
        match side {
            Side::Final(stage) => {
                if let Some(b) = self.last.get_mut(stage) {
                    b.next = to;
                }
            }
            Side::Worker(stage) => {
                let exit = self.exits.len();
                self.exits.push(to);
                if let Some(b) = self.worker.get_mut(stage) {
                    b.next = Next::Exit(exit);
                }
            }
        }
    }

    fn connect_worker(&mut self, stage: usize, to: Next) {
        if let Some(b) = self.worker.get_mut(stage) {
            b.next = to;
        }
    }

    /// Adds a one-input operator on the side of its input.
    fn follow(&mut self, input: Side, build: Build) -> Side {
        match input {
            Side::Worker(stage) => {
                let own = self.add_worker(1, build);
                self.connect_worker(stage, Next::Stage { stage: own, port: 0 });
                Side::Worker(own)
            }
            Side::Final(_) => {
                let own = self.add_final(1, build);
                self.connect_final(input, Next::Stage { stage: own, port: 0 });
                Side::Final(own)
            }
        }
    }

    fn lower(&mut self, plan: &Plan) -> Result<Side> {
        match plan {
            Plan::Scan { table, columns, .. } => {
                let columns = columns.clone();
                let stage = self.add_worker(1, Arc::new(move || Ok(Box::new(Scan { columns: columns.clone() }))));
                self.entries.push((table.clone(), Next::Stage { stage, port: 0 }));
                Ok(Side::Worker(stage))
            }
            Plan::Project { input, expressions, schema } => {
                let input = self.lower(input)?;
                let (expressions, schema) = (expressions.clone(), schema.clone());
                Ok(self.follow(
                    input,
                    Arc::new(move || {
                        Ok(Box::new(Project { expressions: expressions.clone(), schema: schema.clone() }))
                    }),
                ))
            }
            Plan::Filter { input, predicate } => {
                let input = self.lower(input)?;
                let predicate = predicate.clone();
                Ok(self.follow(input, Arc::new(move || Ok(Box::new(Filter { predicate: predicate.clone() })))))
            }
            Plan::Window { input, aggregation, windows, window_at, schema } => {
                let input = self.lower(input)?;
                let (a, w) = (aggregation.clone(), *windows);
                let partial = self.follow(input, Arc::new(move || Ok(Box::new(Partial::new(a.clone(), w)))));
                let (a, schema, at) = (aggregation.clone(), schema.clone(), *window_at);
                let merge =
                    self.add_final(1, Arc::new(move || Ok(Box::new(Merge::new(a.clone(), w, schema.clone(), at)))));
                self.connect_final(partial, Next::Stage { stage: merge, port: 0 });
                Ok(Side::Final(merge))
            }
            Plan::Session { input, aggregation, gap, window_at, schema } => {
                let input = self.lower(input)?;
                let (a, gap, schema, at) = (aggregation.clone(), *gap, schema.clone(), *window_at);
                let session = self
                    .add_final(1, Arc::new(move || Ok(Box::new(Session::new(a.clone(), gap, schema.clone(), at)?))));
                self.connect_final(input, Next::Stage { stage: session, port: 0 });
                Ok(Side::Final(session))
            }
            Plan::Union { inputs, .. } => self.union(inputs),
        }
    }

    fn union(&mut self, inputs: &[Plan]) -> Result<Side> {
        let sides = inputs.iter().map(|i| self.lower(i)).collect::<Result<Vec<_>>>()?;
        let pass: Build = Arc::new(|| Ok(Box::new(Pass)));
        if sides.iter().all(|s| matches!(s, Side::Worker(_))) {
            let own = self.add_worker(sides.len(), pass);
            for (port, side) in sides.iter().enumerate() {
                if let Side::Worker(stage) = side {
                    self.connect_worker(*stage, Next::Stage { stage: own, port });
                }
            }
            return Ok(Side::Worker(own));
        }
        let own = self.add_final(sides.len(), pass);
        for (port, side) in sides.into_iter().enumerate() {
            self.connect_final(side, Next::Stage { stage: own, port });
        }
        Ok(Side::Final(own))
    }
}

fn build(blueprints: &[Blueprint]) -> Result<Graph> {
    let mut graph = Graph::default();
    for b in blueprints {
        graph.add((b.build)()?, b.ports, b.next);
    }
    Ok(graph)
}

/// The columns of a source that one pipeline uses: no copy.
struct Scan {
    columns: Vec<usize>,
}

impl Operator for Scan {
    fn on_batch(&mut self, rows: Rows, out: &mut Output) -> Result<()> {
        let batch = rows.batch.project(&self.columns)?;
        out.batches.push(Rows { batch, ..rows });
        Ok(())
    }
}

/// A union: rows pass, the watermark is the minimum of the inputs'.
struct Pass;

impl Operator for Pass {
    fn on_batch(&mut self, rows: Rows, out: &mut Output) -> Result<()> {
        out.batches.push(rows);
        Ok(())
    }
}
