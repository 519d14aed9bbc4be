//! Where every producer's sequence stands: what makes a retry harmless.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::planted::{self, Bug};

use super::LogOffset;
use super::frame::Cursor;

/// Acknowledgements remembered per producer; a retry of an older batch is still known as one, but its ack names the oldest
/// remembered entry. Clients keep a handful of batches in flight (Kafka's idempotent producers: 5).
const ACKS_REMEMBERED: usize = 16;

/// The place of a batch in its producer's sequence: contiguous from 1 within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Raised by a producer that starts anew; an older epoch is refused.
    pub epoch: u64,
    /// 1, 2, 3, ...
    pub sequence: u64,
}

/// What to do with a sequenced batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is the next one.
    New,
    /// It is in the log or on its way there.
    Retry,
}

#[derive(Debug, Clone)]
struct Acked {
    at: Sequence,
    offset: LogOffset,
    table: Arc<str>,
}

#[derive(Debug)]
struct Producer {
    /// The newest batch, in the log or on its way there.
    newest: Sequence,
    /// The last durable batches, oldest first. Empty only before the first ack.
    acked: VecDeque<Acked>,
}

/// All sequenced producers. They are never forgotten: a forgotten one would have its batches doubled or refused.
#[derive(Debug)]
pub(super) struct Producers {
    by_name: HashMap<Arc<str>, Producer>,
    producers_max: usize,
}

impl Producer {
    /// How far before the newest acknowledged batch the ones before it are in the log, latest first: those of the same
    /// epoch and table, without a gap.
    fn distances(&self, newest: &Acked) -> Vec<u32> {
        let before = self.acked.iter().rev().skip(1).zip(1..);
        let follows = |(ack, n): &(&Acked, u64)| {
            ack.at.epoch == newest.at.epoch && ack.at.sequence + n == newest.at.sequence && ack.table == newest.table
        };
        before.take_while(follows).map_while(|(ack, _)| u32::try_from(newest.offset - ack.offset).ok()).collect()
    }

    /// Takes up the batch `n` before the newest, `distance` before it in the log. `None` when there can be none.
    fn remember_before(&mut self, n: u64, distance: u32) -> Option<()> {
        let newest = self.acked.back()?;
        let at = Sequence { epoch: newest.at.epoch, sequence: newest.at.sequence.checked_sub(n)? };
        let offset = newest.offset.checked_sub(u64::from(distance))?;
        let table = newest.table.clone();
        self.acked.push_front(Acked { at, offset, table });
        Some(())
    }
}

impl Producers {
    pub(super) fn new(producers_max: usize) -> Self {
        Self { by_name: HashMap::new(), producers_max }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Decides on a batch and, if it is new, takes it as the newest.
    pub(super) fn admit(&mut self, name: &Arc<str>, at: Sequence) -> Result<Admission> {
        let Sequence { epoch, sequence } = at;
        if sequence == 0 {
            return Err(Error::event(
                "INVALID_SEQUENCE",
                format!("producer '{name}' sent sequence 0; sequences start at 1"),
            ));
        }
        let Some(producer) = self.by_name.get_mut(name) else {
            return self.admit_first(name, at);
        };
        let newest = producer.newest;
        if epoch < newest.epoch {
            return Err(Error::event(
                "STALE_EPOCH",
                format!(
                    "producer '{name}' sent epoch {epoch}, but epoch {} has begun; another instance has taken over: stop \
                     this one, or start anew with a greater epoch",
                    newest.epoch
                ),
            ));
        }
        let expected = if epoch == newest.epoch { newest.sequence + 1 } else { 1 };
        if sequence > expected && planted::is(Bug::GapAccepted) {
            producer.newest = at;
            return Ok(Admission::New);
        }
        if sequence > expected || (epoch > newest.epoch && sequence != expected) {
            return Err(Error::event(
                "OUT_OF_ORDER",
                format!(
                    "producer '{name}' epoch {epoch}: expected sequence {expected}, got {sequence}; send the batches from \
                     {expected} on, in order"
                ),
            ));
        }
        if sequence < expected {
            return Ok(Admission::Retry);
        }
        producer.newest = at;
        Ok(Admission::New)
    }

    fn admit_first(&mut self, name: &Arc<str>, at: Sequence) -> Result<Admission> {
        if at.sequence != 1 {
            return Err(Error::event(
                "UNKNOWN_PRODUCER",
                format!(
                    "producer '{name}' is not known and sent sequence {}; a new producer starts at 1: start a new epoch \
                     and send again what was not acknowledged",
                    at.sequence
                ),
            ));
        }
        if self.by_name.len() >= self.producers_max {
            return Err(Error::Limit {
                message: format!(
                    "{} producers with sequences are known, and producer '{name}' is new; use fewer producer names, send \
                     without sequences, or raise producers_max",
                    self.producers_max
                ),
                retry_after_ms: 60_000,
            });
        }
        self.by_name.insert(name.clone(), Producer { newest: at, acked: VecDeque::new() });
        Ok(Admission::New)
    }

    /// A batch is durable.
    pub(super) fn durable(&mut self, name: &Arc<str>, at: Sequence, offset: LogOffset, table: &Arc<str>) {
        let producer =
            self.by_name.entry(name.clone()).or_insert_with(|| Producer { newest: at, acked: VecDeque::new() });
        // Later batches may be on their way; after recovery this batch is the newest.
        if (producer.newest.epoch, producer.newest.sequence) < (at.epoch, at.sequence) {
            producer.newest = at;
        }
        if producer.acked.len() >= ACKS_REMEMBERED {
            producer.acked.pop_front();
        }
        producer.acked.push_back(Acked { at, offset, table: table.clone() });
    }

    /// Nothing that is on its way will arrive: the producer stands where its last durable batch is.
    pub(super) fn roll_back(&mut self, name: &Arc<str>) {
        match self.by_name.get_mut(name).map(|p| (p.acked.back().map(|a| a.at), p)) {
            Some((Some(at), producer)) => producer.newest = at,
            _ => {
                self.by_name.remove(name);
            }
        }
    }

    /// The entry of a batch that is durable: exact for the last few, and at or after it for older ones.
    pub(super) fn offset_of(&self, name: &str, at: Sequence, table: &str) -> Result<LogOffset> {
        let acked = self.by_name.get(name).map(|p| &p.acked).into_iter().flatten();
        let mut oldest = None;
        for ack in acked {
            oldest = oldest.or(Some(ack.offset));
            if ack.at == at {
                if &*ack.table != table {
                    return Err(Error::event(
                        "SEQUENCE_REUSED",
                        format!(
                            "producer '{name}' sent epoch {} sequence {} for table {table}, but used it for table {}; \
                             every batch needs its own sequence",
                            at.epoch, at.sequence, ack.table
                        ),
                    ));
                }
                return Ok(ack.offset);
            }
        }
        oldest.ok_or_else(|| Error::Bug(format!("producer '{name}' has a retry and no acknowledged batch")))
    }

    /// The newest batch of each.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&str, Sequence)> {
        self.by_name.iter().map(|(name, p)| (name.as_ref(), p.newest))
    }

    /// Where every producer stands, as bytes; the order is by name, so that equal states give equal bytes. First the
    /// newest acknowledgement of each, then how far before it the ones before are in the log.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut all: Vec<_> = self.by_name.iter().filter_map(|(n, p)| Some((n, p, p.acked.back()?))).collect();
        all.sort_unstable_by_key(|(name, ..)| *name);
        out.extend_from_slice(&(all.len() as u64).to_le_bytes());
        for (name, _, ack) in &all {
            for number in [ack.at.epoch, ack.at.sequence, ack.offset] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            for text in [name, &ack.table] {
                // Names longer than a u16 are refused at the append.
                out.extend_from_slice(&(text.len() as u16).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        for (_, producer, newest) in all {
            let before = producer.distances(newest);
            out.push(before.len() as u8);
            before.iter().for_each(|distance| out.extend_from_slice(&distance.to_le_bytes()));
        }
    }

    /// Takes up what [`Producers::encode`] gave. `None` when the bytes are not that.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Option<()> {
        let mut cursor = Cursor(bytes);
        let mut newest = Vec::new();
        for _ in 0..cursor.u64()? {
            let (epoch, sequence, offset) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
            let (name, table) = (cursor.name()?, cursor.name()?);
            let name: Arc<str> = Arc::from(name);
            self.durable(&name, Sequence { epoch, sequence }, offset, &Arc::from(table));
            newest.push(name);
        }
        for name in newest {
            // The end of it, where older programs wrote nothing more.
            let Some([count]) = cursor.array() else { break };
            let producer = self.by_name.get_mut(&name)?;
            for n in 1..=u64::from(count) {
                let distance = u32::from_le_bytes(cursor.array()?);
                producer.remember_before(n, distance)?;
            }
        }
        Some(())
    }
}
