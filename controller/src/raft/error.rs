//! Why a controller cannot start or go on, and why it does not take a message.

use std::io;
use std::sync::Arc;

use ottla_protocol::types::BrokerId;
use ottla_storage::disk::is_out_of_descriptors;

use crate::record::RecordError;

/// The controller stops: what it promised cannot be kept, or what it finds cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    #[error("the metadata log's disk failed at {path}")]
    Io { path: String, source: io::Error },
    #[error("the metadata log cannot be synced")]
    Sync(#[source] io::Error),
    #[error("the metadata log cannot be read or written")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{path} is damaged: {problem}")]
    Damaged { path: String, problem: &'static str },
    #[error("{path} has format {found}, this release reads format {known}")]
    UnknownFormat { path: String, found: u8, known: u8 },
    #[error("entry {index} of the metadata log cannot be read")]
    UnreadableEntry { index: u64, source: RecordError },
    #[error("the metadata log has entries but no snapshot that they continue")]
    NoSnapshot,
    #[error("node {node_id} is not a member of this metadata quorum")]
    NotAMember { node_id: BrokerId },
    #[error("a metadata quorum has at least one voter, each only once and none negative")]
    InvalidVoters,
    #[error("the data belongs to cluster {actual}, not to {expected}")]
    ClusterIdMismatch {
        expected: Arc<str>,
        actual: Arc<str>,
    },
    #[error("the consensus engine refused to go on")]
    Consensus(#[source] raft::Error),
    /// It failed before; what is on disk is only known after a restart.
    #[error("the controller stopped after an earlier failure")]
    Stopped,
}

impl ControllerError {
    pub(super) fn io(path: impl Into<String>) -> impl FnOnce(io::Error) -> ControllerError {
        let path = path.into();
        move |source| ControllerError::Io { path, source }
    }

    /// The disk takes no writes any more, and what it holds is as it was.
    pub fn is_of_a_read_only_disk(&self) -> bool {
        let kind = self.io_error().map(io::Error::kind);
        kind == Some(io::ErrorKind::ReadOnlyFilesystem)
    }

    /// The disk takes nothing for the moment, and the same may be tried again: there is no room or
    /// no descriptor, or its file system is read-only. A sync that was begun and failed is none of
    /// this: nobody knows what the disk has of it.
    pub(super) fn may_pass(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let Some(error) = self.io_error() else {
            return false;
        };
        let is_full = matches!(
            error.kind(),
            StorageFull | QuotaExceeded | ReadOnlyFilesystem
        );
        let is_sync = matches!(self, ControllerError::Sync(_));
        is_out_of_descriptors(error) || (is_full && !is_sync)
    }

    /// In words, for the log.
    pub(super) fn io_cause(&self) -> String {
        self.io_error()
            .map(io::Error::to_string)
            .unwrap_or_default()
    }

    fn io_error(&self) -> Option<&io::Error> {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |e| e.source());
        let mut io = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
        io.next()
    }
}

/// Why a message of another controller is not taken. The connection it came by is not to be
/// trusted further, except after `Raft`, which says that the message came too late to matter.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("message of format {0} is not known to this release")]
    UnknownFormat(u8),
    #[error("message is not well-formed")]
    Malformed,
    #[error("message of a kind that controllers do not send each other")]
    UnexpectedKind,
    #[error("message from node {claimed:?} came from node {actual}")]
    WrongSender {
        claimed: Option<BrokerId>,
        actual: BrokerId,
    },
    #[error("message is for another node")]
    WrongReceiver,
    #[error("entries of the message are not consecutive")]
    InconsistentEntries,
    #[error("message carries records that cannot be read")]
    UnreadableRecords(#[source] RecordError),
    #[error("the sender counts on entries that this node does not have")]
    BeyondLog,
    #[error("the sender's log contradicts entries that are committed here")]
    ContradictsCommitted,
    #[error("message was dropped")]
    Raft(#[source] raft::Error),
    #[error("the controller has stopped")]
    Stopped,
}
