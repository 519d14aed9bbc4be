//! Durability bugs that a test plants, to see that the simulator finds them.
//!
//! No option, SQL text, request or environment variable leads here: a bug is planted by a call, on the calling thread
//! alone, and only in builds with debug assertions; in others [`is`] is `false` for the compiler too.

use std::cell::Cell;

/// A bug that can be planted, by what the program then does wrong.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The log is not synced before the acknowledgement.
    LogWithoutSync,
    /// A group is synced only when the next one is written.
    LogSyncsLate,
    /// A failed sync is taken for a good one.
    LogIgnoresFailedSync,
    /// The name of a new segment is not made durable.
    LogWithoutDirectorySync,
    /// The checksum of a frame is not looked at.
    LogWithoutChecksum,
    /// What a crash left half-written stays in the file.
    LogKeepsTornTail,
    /// What was read at the start is not synced.
    LogWithoutSyncOnOpen,
    /// What a full disk left half-written stays in the file.
    LogKeepsTailOfFullDisk,
    /// A retry is acknowledged while the first is still on its way.
    RetryAcknowledgedAtOnce,
    /// A retry is written again.
    RetryWrittenAgain,
    /// A gap in a producer's sequence is accepted.
    GapAccepted,
    /// A new segment does not say where the producers stand.
    ProducersForgotten,
    /// Segments are removed that the checkpoint still needs.
    LogCutTooFar,
    /// The manifest is written in place, without a sync.
    ManifestNotAtomic,
    /// State files are written in place, without a sync.
    StateNotAtomic,
    /// State files of earlier checkpoints are removed though they are still needed.
    StateRemovedEarly,
    /// A checkpoint forgets the state files of earlier ones.
    StateForgotten,
    /// Tables are committed before the manifest is published.
    CommitBeforeManifest,
    /// What a restored checkpoint had prepared is not committed.
    NoCommitAtStart,
    /// A restart uses the number of the checkpoint that it restored again.
    CheckpointNumberReused,
    /// A checkpoint's place in the log is one entry too far.
    PlaceTooFar,
    /// A checkpoint's place in the log is one entry too early.
    PlaceTooEarly,
    /// The table is not asked whether it has the transaction already.
    TransactionNotRead,
    /// After a commit with an unknown outcome its files are deleted.
    FilesDeletedOnUnknown,
    /// A commit with an unknown outcome is taken for done.
    UnknownTakenForDone,
    /// A lost race is taken for a commit.
    LostRaceTakenForDone,
    /// Late rows are counted and dropped.
    LateRowsDropped,
    /// A source's watermark may go back.
    WatermarkGoesBack,
    /// A restart begins without watermarks.
    WatermarkNotRestored,
    /// The checksum of state is not looked at.
    StateWithoutChecksum,
    /// A damaged checkpoint is taken again up to wherever the log has been read.
    AgainTooFar,
    /// Of several damaged checkpoints only the last is taken again.
    AgainOnlyLast,
    /// A checkpoint does not name the state that is out of memory.
    SpilledForgotten,
    /// What goes out of memory stays in the checkpoint's other files too.
    SpilledTwice,
    /// State that went out of memory since the last checkpoint is removed as if nobody needed it.
    SpilledRemovedEarly,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::LogWithoutSync,
        Self::LogSyncsLate,
        Self::LogIgnoresFailedSync,
        Self::LogWithoutDirectorySync,
        Self::LogWithoutChecksum,
        Self::LogKeepsTornTail,
        Self::LogWithoutSyncOnOpen,
        Self::LogKeepsTailOfFullDisk,
        Self::RetryAcknowledgedAtOnce,
        Self::RetryWrittenAgain,
        Self::GapAccepted,
        Self::ProducersForgotten,
        Self::LogCutTooFar,
        Self::ManifestNotAtomic,
        Self::StateNotAtomic,
        Self::StateRemovedEarly,
        Self::StateForgotten,
        Self::CommitBeforeManifest,
        Self::NoCommitAtStart,
        Self::CheckpointNumberReused,
        Self::PlaceTooFar,
        Self::PlaceTooEarly,
        Self::TransactionNotRead,
        Self::FilesDeletedOnUnknown,
        Self::UnknownTakenForDone,
        Self::LostRaceTakenForDone,
        Self::LateRowsDropped,
        Self::WatermarkGoesBack,
        Self::WatermarkNotRestored,
        Self::StateWithoutChecksum,
        Self::AgainTooFar,
        Self::AgainOnlyLast,
        Self::SpilledForgotten,
        Self::SpilledTwice,
        Self::SpilledRemovedEarly,
    ];

    /// Whether it shows only when a file is damaged.
    pub fn needs_damage(self) -> bool {
        matches!(self, Self::StateWithoutChecksum | Self::AgainTooFar | Self::AgainOnlyLast)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or none.
#[doc(hidden)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this thread has the bug.
pub(crate) fn is(bug: Bug) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(bug)
}
