//! The operators of one thread, wired into a tree: a message goes in at a stage, and whatever comes of it leaves at the
//! exits before the call returns, piece by piece. No queues inside: back-pressure is the caller's.

use std::sync::Arc;

use crate::error::Result;
use crate::message::{Message, Rows};
use crate::operators::spill::{Spill, Spilled};
use crate::operators::{Operator, Output, StateChange};
use crate::time::{WATERMARK_MIN, Watermark};
use arrow::record_batch::RecordBatch;

/// Where a stage's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Into another stage, at one of its inputs.
    Stage {
        /// Which stage.
        stage: usize,
        /// Which of its inputs.
        port: usize,
    },
    /// Out of this graph.
    Exit(usize),
}

/// A message that left the graph at an exit.
pub type Left = (Exit, Message);

/// Where messages leave to.
pub type Leave<'a> = dyn FnMut(Left) -> Result<()> + 'a;

/// Which way a message left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A numbered exit, given in [`Next::Exit`].
    Main(usize),
    /// Late rows of any stage.
    Late,
    /// Rows for which an expression of any stage failed.
    Failed,
}

struct Stage {
    operator: Box<dyn Operator>,
    /// The watermark of each input; theirs is the minimum.
    ports: Vec<Watermark>,
    watermark: Watermark,
    sent: Watermark,
    next: Next,
    /// Whether what it holds back may wait for [`Graph::pause`].
    is_patient: bool,
}

/// A tree of operators, children before parents.
#[derive(Default)]
pub struct Graph {
    stages: Vec<Stage>,
}

impl Graph {
    /// Adds a stage with `ports` inputs; its children have been added before. Returns its number.
    pub fn add(&mut self, operator: Box<dyn Operator>, ports: usize, next: Next) -> usize {
        let ports = vec![WATERMARK_MIN; ports];
        let (watermark, sent) = (WATERMARK_MIN, WATERMARK_MIN);
        self.stages.push(Stage { operator, ports, watermark, sent, next, is_patient: false });
        self.stages.len() - 1
    }

    /// Lets a stage hold input back until [`Graph::pause`].
    pub fn be_patient(&mut self, stage: usize) {
        self.stages.iter_mut().skip(stage).take(1).for_each(|stage| stage.is_patient = true);
    }

    /// How many stages.
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there is no stage.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Sends a message in; what comes of it leaves through `left`, each as soon as it is there.
    pub fn push(&mut self, to: Next, message: Message, left: &mut Leave<'_>) -> Result<()> {
        let (at, port) = match to {
            Next::Stage { stage, port } => (stage, port),
            Next::Exit(exit) => return left((Exit::Main(exit), message)),
        };
        let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
        let (next, waits) = (stage.next, stage.is_patient);
        let (mut out, mut moved) = (Output::default(), false);
        match message {
            Message::Batch(rows) => stage.operator.on_batch(port, rows, &mut out)?,
            Message::Slice(slice) => stage.operator.on_slice(&slice, &mut out)?,
            Message::Late(late) => left((Exit::Late, Message::Late(late)))?,
            Message::Failed(failed) => left((Exit::Failed, Message::Failed(failed)))?,
            Message::Watermark(w) => moved = stage.advance(port, w),
            // Barriers and ends concern a whole graph at once: see `barrier`.
            Message::Barrier(_) | Message::End => {}
        }
        self.hand_on(next, out, left)?;
        if moved {
            self.hand_on_closed(at, left)?;
        }
        if waits { Ok(()) } else { self.pause_stage(at, left) }
    }

    /// No more input is there yet: lets every stage hand on what it held back, children first.
    pub fn pause(&mut self, left: &mut Leave<'_>) -> Result<()> {
        (0..self.stages.len()).try_for_each(|at| self.pause_stage(at, left))
    }

    fn pause_stage(&mut self, at: usize, left: &mut Leave<'_>) -> Result<()> {
        let Some(stage) = self.stages.get_mut(at) else { return Ok(()) };
        let mut out = Output::default();
        if !stage.operator.on_pause(&mut out)? {
            return Ok(());
        }
        let next = stage.next;
        self.hand_on(next, out, left)?;
        self.hand_on_closed(at, left)
    }

    /// Hands on all that a stage's watermark closes, and the watermark if it moved.
    fn hand_on_closed(&mut self, at: usize, left: &mut Leave<'_>) -> Result<()> {
        loop {
            let Some(stage) = self.stages.get_mut(at).filter(|s| s.watermark > WATERMARK_MIN) else { return Ok(()) };
            let mut out = Output::default();
            let on = stage.operator.on_watermark(stage.watermark, &mut out)?;
            let (next, more, moved) = (stage.next, out.more, on > stage.sent);
            stage.sent = on.max(stage.sent);
            self.hand_on(next, out, left)?;
            if moved {
                self.push(next, Message::Watermark(on), left)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn hand_on(&mut self, next: Next, out: Output, left: &mut Leave<'_>) -> Result<()> {
        for rows in out.batches.into_iter().filter(|r: &Rows| !r.is_empty()) {
            self.push(next, Message::Batch(rows), left)?;
        }
        for slice in out.slices {
            self.push(next, Message::Slice(slice.into()), left)?;
        }
        out.late.into_iter().try_for_each(|late| left((Exit::Late, Message::Late(late))))?;
        out.failed.into_iter().try_for_each(|failed| left((Exit::Failed, Message::Failed(failed))))
    }

    /// Lets every stage hand on what must not stay across a checkpoint, children first.
    pub fn barrier(&mut self, left: &mut Leave<'_>) -> Result<()> {
        self.every_stage(|operator, out| operator.on_barrier(out), left)
    }

    /// Lets every stage hand on what it can, for memory is short.
    pub fn shed(&mut self, left: &mut Leave<'_>) -> Result<()> {
        self.every_stage(|operator, out| operator.shed(out), left)
    }

    fn every_stage(
        &mut self,
        act: impl Fn(&mut dyn Operator, &mut Output) -> Result<()>,
        left: &mut Leave<'_>,
    ) -> Result<()> {
        for at in 0..self.stages.len() {
            let mut out = Output::default();
            let Some(stage) = self.stages.get_mut(at) else { continue };
            act(stage.operator.as_mut(), &mut out)?;
            let next = stage.next;
            self.hand_on(next, out, left)?;
        }
        Ok(())
    }

    /// Moves a stage's state out of memory; whether it did.
    pub fn spill(&mut self, stage: usize, spill: &mut dyn Spill) -> Result<bool> {
        self.stages.get_mut(stage).map_or(Ok(false), |s| s.operator.spill(spill))
    }

    /// A stage's state that is out of memory.
    pub fn spilled(&self, stage: usize) -> Vec<Arc<dyn Spilled>> {
        self.stages.get(stage).map(|s| s.operator.spilled()).unwrap_or_default()
    }

    /// What changed in a stage's state; `whole`: all of it is asked for.
    pub fn snapshot(&mut self, stage: usize, whole: bool) -> Result<StateChange> {
        self.stages.get_mut(stage).map_or(Ok(StateChange::None), |s| s.operator.snapshot(whole))
    }

    /// Gives a stage its state, out of memory and in memory, and its watermarks back.
    pub fn restore(
        &mut self,
        stage: usize,
        spilled: Vec<Arc<dyn Spilled>>,
        state: Vec<RecordBatch>,
        watermarks: &StageWatermarks,
    ) -> Result<()> {
        let Some(stage) = self.stages.get_mut(stage) else { return Ok(()) };
        if stage.ports.len() == watermarks.ports.len() {
            stage.ports.clone_from(&watermarks.ports);
            for (port, watermark) in watermarks.ports.iter().enumerate() {
                stage.operator.on_input_watermark(port, *watermark);
            }
        }
        (stage.watermark, stage.sent) = (watermarks.watermark, watermarks.sent);
        for state in spilled {
            stage.operator.restore_spilled(state, watermarks.sent)?;
        }
        stage.operator.restore(state, watermarks.sent)
    }

    /// The watermarks of a stage, for a checkpoint.
    pub fn watermarks(&self, stage: usize) -> StageWatermarks {
        self.stages.get(stage).map_or_else(StageWatermarks::default, |s| StageWatermarks {
            ports: s.ports.clone(),
            watermark: s.watermark,
            sent: s.sent,
        })
    }

    /// Bytes of state in all stages, roughly.
    pub fn state_bytes(&self) -> usize {
        self.stages.iter().map(|s| s.operator.state_bytes()).sum()
    }
}

/// The watermarks of one stage, as a checkpoint keeps them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StageWatermarks {
    /// Of each input.
    pub ports: Vec<Watermark>,
    /// Their minimum.
    pub watermark: Watermark,
    /// What was handed on.
    pub sent: Watermark,
}

impl Default for StageWatermarks {
    fn default() -> Self {
        Self { ports: Vec::new(), watermark: WATERMARK_MIN, sent: WATERMARK_MIN }
    }
}

impl Stage {
    /// Takes the watermark of one input; whether that of all moved.
    fn advance(&mut self, port: usize, watermark: Watermark) -> bool {
        if let Some(p) = self.ports.get_mut(port) {
            *p = watermark.max(*p);
            self.operator.on_input_watermark(port, *p);
        }
        let all = self.ports.iter().copied().min().unwrap_or(WATERMARK_MIN);
        let moved = all > self.watermark;
        self.watermark = all.max(self.watermark);
        moved
    }
}
