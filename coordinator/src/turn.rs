//! What the host lends the machine for one command, and what the machine gives back beside it.

use ottla_protocol::error::ErrorCode;
use uuid::Uuid;

use crate::command::{JoinReply, SyncReply};
use crate::records::GroupRecord;

/// A request that is answered later, as the host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The records could not be appended; nothing was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the records of the group could not be appended: {0:?}")]
pub struct JournalError(pub ErrorCode);

/// The partition of `__consumer_offsets` that a coordinator writes to.
pub trait Journal {
    /// Appends all records atomically, in order, or none of them. The error is one that the
    /// clients of groups understand (14, 15 or 16), or -1: too large for the log.
    fn append(&mut self, records: &[GroupRecord]) -> Result<(), JournalError>;
}

/// The limits in force, all from the broker's configuration; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    /// Most members of a classic group.
    pub max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
}

impl Default for GroupLimits {
    /// Kafka's defaults.
    fn default() -> GroupLimits {
        GroupLimits {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: usize::MAX,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
        }
    }
}

/// The answer of a request that had to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Join(JoinReply),
    Sync(SyncReply),
}

/// One command's surroundings.
pub struct Turn<'a> {
    pub now_ms: i64,
    pub limits: &'a GroupLimits,
    pub journal: &'a mut dyn Journal,
    pub new_id: &'a mut dyn FnMut() -> Uuid,
    /// Who is answered in this turn, whoever's command it is.
    pub answers: Vec<(Token, Answer)>,
    /// What people should read about this turn: rebalances with their reasons, members lost.
    pub events: Vec<GroupEvent>,
}

/// Something worth a log line or a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// A rebalance begins.
    RebalanceStarted { group: String, reason: String },
    /// A generation is complete: everybody has joined.
    GenerationCompleted {
        group: String,
        generation: i32,
        members: usize,
    },
    /// A member was removed because it was silent or did not come back in time.
    MemberExpired {
        group: String,
        member: String,
        reason: &'static str,
    },
    /// Offsets were dropped because they are older than the retention.
    OffsetsExpired { group: String, count: usize },
}

impl<'a> Turn<'a> {
    pub fn new(
        now_ms: i64,
        limits: &'a GroupLimits,
        journal: &'a mut dyn Journal,
        new_id: &'a mut dyn FnMut() -> Uuid,
    ) -> Turn<'a> {
        Turn {
            now_ms,
            limits,
            journal,
            new_id,
            answers: Vec::new(),
            events: Vec::new(),
        }
    }

    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.answers.push((token, answer));
    }
}
