//! A plan to the graphs of threads.
//!
//! Stateless operators and first halves run in every worker; whatever must see all rows runs once, in the final
//! thread:
//!
//! ```text
//! source ─┬─> worker 0: scan, filter, project, partial ─┐
//!         └─> worker 1: scan, filter, project, partial ─┴─> final: merge, filter, project ──> sink
//! ```

use std::sync::Arc;

use super::Result;
use crate::error::Error;
use crate::message::Rows;
use crate::operators::graph::{Graph, Next};
use crate::operators::spec::{Place, Spec};
use crate::operators::{Operator, Output};
use crate::sql::plan::Plan;

/// The exit of the final graph that leads to the sink.
pub const SINK: usize = 0;

type Build = Arc<dyn Fn() -> Result<Box<dyn Operator>> + Send + Sync>;

struct Blueprint {
    build: Build,
    ports: usize,
    next: Next,
    is_patient: bool,
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
        let root = all.lower(plan, true)?;
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
        self.worker.push(Blueprint { build, ports, next: Next::Exit(0), is_patient: false });
        self.worker.len() - 1
    }

    fn add_final(&mut self, ports: usize, build: Build, is_patient: bool) -> usize {
        self.last.push(Blueprint { build, ports, next: Next::Exit(SINK), is_patient });
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

    /// `patient`: whether nothing between here and the sink is punctual.
    fn lower(&mut self, plan: &Plan, patient: bool) -> Result<Side> {
        match plan {
            Plan::Scan { table, columns, .. } => {
                let columns = columns.clone();
                let stage = self.add_worker(1, Arc::new(move || Ok(Box::new(Scan { columns: columns.clone() }))));
                self.entries.push((table.clone(), Next::Stage { stage, port: 0 }));
                Ok(Side::Worker(stage))
            }
            Plan::Operator { spec, inputs } => self.operator(spec, inputs, patient),
        }
    }

    fn operator(&mut self, spec: &Arc<dyn Spec>, inputs: &[Plan], patient: bool) -> Result<Side> {
        let before = patient && !spec.is_punctual();
        let mut sides = inputs.iter().map(|i| self.lower(i, before)).collect::<Result<Vec<_>>>()?;
        if spec.first_half().is_some() {
            let half = spec.clone();
            let build: Build = Arc::new(move || {
                half.first_half().unwrap_or_else(|| Err(Error::Bug("an operator lost its first half".into())))
            });
            sides = sides.into_iter().map(|side| self.add(vec![side], build.clone(), patient)).collect();
            return Ok(self.add_last(sides, spec, patient));
        }
        match spec.place() {
            Place::Worker => {
                let own = spec.clone();
                Ok(self.add(sides, Arc::new(move || own.build()), patient))
            }
            Place::Final => Ok(self.add_last(sides, spec, patient)),
        }
    }

    /// Adds an operator in the workers if all its inputs are there, else in the final thread.
    fn add(&mut self, sides: Vec<Side>, build: Build, patient: bool) -> Side {
        if !sides.iter().all(|s| matches!(s, Side::Worker(_))) {
            return self.connect_last(sides, build, patient);
        }
        let own = self.add_worker(sides.len(), build);
        for (port, side) in sides.iter().enumerate() {
            if let Side::Worker(stage) = side
                && let Some(b) = self.worker.get_mut(*stage)
            {
                b.next = Next::Stage { stage: own, port };
            }
        }
        Side::Worker(own)
    }

    fn add_last(&mut self, sides: Vec<Side>, spec: &Arc<dyn Spec>, patient: bool) -> Side {
        let own = spec.clone();
        self.connect_last(sides, Arc::new(move || own.build()), patient)
    }

    fn connect_last(&mut self, sides: Vec<Side>, build: Build, patient: bool) -> Side {
        let own = self.add_final(sides.len(), build, patient);
        for (port, side) in sides.into_iter().enumerate() {
            self.connect_final(side, Next::Stage { stage: own, port });
        }
        Side::Final(own)
    }
}

fn build(blueprints: &[Blueprint]) -> Result<Graph> {
    let mut graph = Graph::default();
    for b in blueprints {
        let stage = graph.add((b.build)()?, b.ports, b.next);
        if b.is_patient {
            graph.be_patient(stage);
        }
    }
    Ok(graph)
}

/// The columns of a source that one pipeline uses: no copy.
struct Scan {
    columns: Vec<usize>,
}

impl Operator for Scan {
    fn on_batch(&mut self, _port: usize, rows: Rows, out: &mut Output) -> Result<()> {
        let batch = rows.batch.project(&self.columns)?;
        out.batches.push(Rows { batch, ..rows });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::program::Program;

    /// Which stages of the final thread may hold input back.
    fn patient(query: &str) -> Vec<bool> {
        let mut program = Program::default();
        let tables = "CREATE TABLE t (ts TIMESTAMP, k BIGINT, v BIGINT, WATERMARK FOR ts) WITH (connector = 'ingest');
                      CREATE TABLE o WITH (connector = 'lake', format = 'debezium_json');";
        program.execute(&format!("{tables} INSERT INTO o {query};"), "lower.sql").unwrap();
        let blueprints = Blueprints::new(&program.pipelines["o"].plan).unwrap();
        blueprints.last.iter().map(|b| b.is_patient).collect()
    }

    #[test]
    fn input_waits_only_where_nothing_depends_on_the_place_of_a_watermark() {
        let count = "SELECT k, count(*) AS n FROM t GROUP BY k";
        assert!(patient(count).iter().all(|p| *p));
        let of_counts = patient(&format!("SELECT n, count(*) AS m FROM ({count}) GROUP BY n"));
        assert!(of_counts.len() > 1 && of_counts.iter().all(|p| *p));
        assert!(!patient(&format!("{count} EMIT EVERY INTERVAL '10 seconds'"))[0]);
        let joined = patient(&format!("SELECT t.v, c.n FROM ({count}) AS c JOIN t ON t.k = c.k"));
        assert!(!joined[0], "{joined:?}");
    }
}
