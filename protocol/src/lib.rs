//! The Kafka wire protocol: frames, headers, messages, record batches. Pure: no I/O, no clock.
//!
//! Bytes from a peer or a disk are untrusted everywhere in this crate: nothing panics on them,
//! and memory is bounded by the size of the frame. `docs/architecture.md` has the map.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod api_versions;
pub mod batch;
pub mod consumer_protocol;
pub mod error;
pub mod fetch_view;
pub mod fetch_writer;
pub mod frame;
pub mod guard;
pub mod header;
pub mod leader_hint;
pub mod messages;
pub mod metadata_view;
pub mod produce_view;
pub mod produce_writer;
pub mod record;
pub mod topic_name;
pub mod types;
pub mod wire;

pub use batch::{BatchBuilder, BatchError, BatchHeader, Compression, RecordBatch, RecordBatchView};
pub use error::{DecodeError, EncodeError, ErrorCode};
pub use frame::{Body, Piece};
pub use header::RequestHeader;
pub use messages::StrBytes;
pub use types::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId, TopicPartition};
