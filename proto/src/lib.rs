//! The wire types of Millstream: typed events, batches and receipts, and the ingest service. No logic.

/// The messages of `millstream/v1/*.proto`, and a client of the ingest service.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/millstream.v1.rs"));
}

pub mod envelope;

/// The encoded `google.protobuf.FileDescriptorSet` of all files, comments included: descriptions of columns come from it.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
