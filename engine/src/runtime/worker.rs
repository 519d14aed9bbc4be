//! A worker of a pipeline: runs the worker graph on its share of the batches.

use std::sync::mpsc::{Receiver, SyncSender};

use super::Result;
use super::budget::Share;
use super::pipeline::Feed;
use crate::message::Message;
use crate::operators::graph::{Graph, Left, Next};

/// What a worker made of one feed.
pub(super) enum Yield {
    /// Of rows.
    Batch(Vec<Left>),
    /// Of anything that every worker gets.
    Broadcast(Vec<Left>, Mark),
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
    pub(super) fn run(mut self, feed: Receiver<Feed>, out: &SyncSender<Yield>) -> Result<()> {
        for message in feed {
            let result = match self.yields(message)? {
                (left, None) => Yield::Batch(left),
                (left, Some(mark)) => Yield::Broadcast(left, mark),
            };
            if out.send(result).is_err() {
                return Ok(());
            }
        }
        Ok(())
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
