//! A worker of a pipeline: runs the worker graph on its share of the batches.

use std::iter::Flatten;
use std::vec::IntoIter;

use super::Result;
use super::budget::Share;
use super::pipeline::Feed;
use super::queue::{Receiver, Sender};
use crate::message::{FailedRows, LateRows, Message, Rows, bytes};
use crate::operators::graph::{Graph, Left, Next};

/// What a worker made of one feed.
pub(super) enum Yield {
    /// Of rows.
    Batch(Vec<Left>),
    /// Of anything that every worker gets.
    Broadcast(Vec<Left>, Mark),
}

impl Yield {
    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        let (Self::Batch(left) | Self::Broadcast(left, _)) = self;
        let of = |(_, message): &Left| match message {
            Message::Batch(Rows { batch, .. })
            | Message::Late(LateRows { batch, .. })
            | Message::Failed(FailedRows { batch, .. }) => bytes(batch) + batch.num_rows() * size_of::<i64>(),
            Message::Slice(state) => bytes(&state.groups),
            Message::Watermark(_) | Message::Barrier(_) | Message::End => 0,
        };
        size_of::<Self>() + left.iter().map(|left| size_of::<Left>() + of(left)).sum::<usize>()
    }
}

/// The end of the final thread at which a worker's yields arrive.
pub(super) struct Yields {
    from: Receiver<Vec<Yield>>,
    here: Flatten<IntoIter<Vec<Yield>>>,
}

impl Yields {
    pub(super) fn new(from: Receiver<Vec<Yield>>) -> Self {
        Self { from, here: Vec::new().into_iter().flatten() }
    }

    /// The next, if it is here.
    pub(super) fn try_next(&mut self) -> Option<Yield> {
        self.here.next().or_else(|| {
            self.here = self.from.here().into_iter().flatten();
            self.here.next()
        })
    }

    /// Waits for the next; none if the worker has ended.
    pub(super) fn next(&mut self) -> Option<Yield> {
        self.here.next().or_else(|| {
            self.here = self.from.next().into_iter().flatten();
            self.here.next()
        })
    }
}

/// What every worker gets at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Watermark,
    Barrier(u64),
    End,
}

/// One worker: its graph, and where the rows of each source enter it.
pub(super) struct Worker {
    pub(super) graph: Graph,
    pub(super) entries: Vec<Vec<Next>>,
    pub(super) share: Share,
}

impl Worker {
    /// Takes what waits, and sends at once what comes of it: threads that wake each other for each batch spend more on that
    /// than on the cheapest batches.
    pub(super) fn run(mut self, feeds: &Receiver<Feed>, out: &Sender<Vec<Yield>>) -> Result<()> {
        loop {
            let waiting = feeds.next();
            if waiting.is_empty() {
                return Ok(());
            }
            let (mut yields, mut done) = (Vec::with_capacity(waiting.len()), Ok(()));
            for feed in waiting {
                match self.yields(feed) {
                    Ok((left, None)) => yields.push(Yield::Batch(left)),
                    Ok((left, Some(mark))) => yields.push(Yield::Broadcast(left, mark)),
                    // What came before goes on all the same.
                    Err(e) => {
                        done = Err(e);
                        break;
                    }
                }
            }
            let is_there = out.send(yields, |yields| yields.iter().map(Yield::bytes).sum());
            done?;
            if !is_there {
                return Ok(());
            }
        }
    }

    /// What comes out for a feed, with its mark if every worker gets that feed.
    pub(super) fn yields(&mut self, feed: Feed) -> Result<(Vec<Left>, Option<Mark>)> {
        let mut left = Vec::new();
        if self.share.is_short(|| self.graph.state_bytes()) {
            self.graph.shed(&mut into(&mut left))?;
            self.share.settle(self.graph.state_bytes())?;
        }
        let mark = match feed {
            Feed::Batch(source, rows) => {
                self.push(source, &Message::Batch(*rows), &mut left)?;
                None
            }
            Feed::Watermark(source, w) => {
                self.push(source, &Message::Watermark(w), &mut left)?;
                Some(Mark::Watermark)
            }
            Feed::Barrier(n) => {
                self.graph.barrier(&mut into(&mut left))?;
                Some(Mark::Barrier(n))
            }
            Feed::End => Some(Mark::End),
        };
        Ok((left, mark))
    }

    fn push(&mut self, source: usize, message: &Message, left: &mut Vec<Left>) -> Result<()> {
        for entry in self.entries.get(source).into_iter().flatten() {
            self.graph.push(*entry, message.clone(), &mut into(left))?;
        }
        Ok(())
    }
}

/// Appends what leaves.
fn into(left: &mut Vec<Left>) -> impl FnMut(Left) -> Result<()> {
    |one| {
        left.push(one);
        Ok(())
    }
}
