//! The lake: every table as a Delta Lake table (Parquet and a transaction log) on a local directory or on S3.
//!
//! In come record batches in the engine's types; out go files that DuckDB, Spark, Polars and DataFusion read as they are,
//! partitioned by `day` and the columns that a pipeline names. Writing has two steps, so that a checkpoint can lie between them:
//!
//! ```text
//! batches --LakeTable::write--> PendingFile (on the store, not in the table) --LakeTable::commit--> table version
//! ```
//!
//! What never happens here: a file is never deleted because a commit failed, a commit is never written before the table's
//! `txn` version was read from a fresh snapshot, and nothing is reported as done that a power cut could take away.

mod changes;
mod commit;
mod encode;
mod local;
mod maintain;
mod partition;
mod scrub;
mod statistics;
mod store;
mod table;
mod types;

pub use changes::Changes;
pub use encode::PendingFile;
pub use maintain::{Maintenance, MaintenanceReport};
pub use partition::can_split;
pub use scrub::{FileDamage, TableReport};
pub use store::Lake;
pub(crate) use table::{DataFile, Reading};
pub use table::{LakeTable, Owner};
pub use types::table_schema;
