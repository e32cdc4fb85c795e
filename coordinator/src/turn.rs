//! What the host lends the machine for one command, and what the machine gives back beside it.

use ottla_protocol::error::ErrorCode;
use uuid::Uuid;

use crate::command::{JoinReply, SyncReply};
use crate::records::GroupRecord;
use crate::topics::{NoTopics, Topics};

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
    pub consumer: ConsumerLimits,
}

/// The keys `group.consumer.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerLimits {
    pub max_size: usize,
    /// By name, the default first; also Java class names. Those that are unknown are passed over.
    pub assignors: Vec<String>,
    pub migration_policy: MigrationPolicy,
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    /// Shortest time between two target assignments of a group.
    pub assignment_interval_ms: i32,
    /// The oldest that what a regular expression matches may become.
    pub regex_refresh_interval_ms: i64,
}

impl Default for ConsumerLimits {
    /// Kafka's defaults.
    fn default() -> ConsumerLimits {
        ConsumerLimits {
            max_size: usize::MAX,
            assignors: vec!["uniform".to_owned(), "range".to_owned()],
            migration_policy: MigrationPolicy::Bidirectional,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
            regex_refresh_interval_ms: 10 * 60 * 1_000,
        }
    }
}

/// Between which kinds a group with members may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    Bidirectional,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic groups.
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    /// Kafka's name, in any case.
    pub fn parse(name: &str) -> Option<MigrationPolicy> {
        match name.to_ascii_lowercase().as_str() {
            "bidirectional" => Some(MigrationPolicy::Bidirectional),
            "upgrade" => Some(MigrationPolicy::Upgrade),
            "downgrade" => Some(MigrationPolicy::Downgrade),
            "disabled" => Some(MigrationPolicy::Disabled),
            _ => None,
        }
    }

    pub fn upgrades(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade
        )
    }

    pub fn downgrades(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade
        )
    }
}

/// What is configured for one group (`consumer.*`), already within the bounds that the broker
/// allows; `None`: as for all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupConfig {
    pub session_timeout_ms: Option<i32>,
    pub heartbeat_interval_ms: Option<i32>,
    pub assignment_interval_ms: Option<i32>,
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
            consumer: ConsumerLimits::default(),
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
    pub topics: &'a dyn Topics,
    /// By the group's id.
    pub configs: &'a dyn Fn(&str) -> GroupConfig,
    /// Who is answered in this turn, whoever's command it is.
    pub answers: Vec<(Token, Answer)>,
    /// What people should read about this turn: rebalances with their reasons, members lost.
    pub events: Vec<GroupEvent>,
    /// While commands are carried out together: what they want to write.
    pub(crate) held: Option<Vec<GroupRecord>>,
}

/// Why a rebalance begins, for counting: the reason is for people, and names members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceCause {
    MemberJoined,
    MemberLeft,
    /// A member was removed because it was silent, or did not come back in time.
    MemberRemoved,
    /// The leader joined again: it wants a new assignment.
    LeaderRejoined,
    /// A member reads other topics, or can use other protocols.
    SubscriptionChanged,
    /// Topics that are read have other partitions now.
    TopicsChanged,
    /// The assignment could not be written down.
    AssignmentLost,
}

impl RebalanceCause {
    pub const ALL: [RebalanceCause; 7] = [
        RebalanceCause::MemberJoined,
        RebalanceCause::MemberLeft,
        RebalanceCause::MemberRemoved,
        RebalanceCause::LeaderRejoined,
        RebalanceCause::SubscriptionChanged,
        RebalanceCause::TopicsChanged,
        RebalanceCause::AssignmentLost,
    ];

    /// The label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            RebalanceCause::MemberJoined => "member_joined",
            RebalanceCause::MemberLeft => "member_left",
            RebalanceCause::MemberRemoved => "member_removed",
            RebalanceCause::LeaderRejoined => "leader_rejoined",
            RebalanceCause::SubscriptionChanged => "subscription_changed",
            RebalanceCause::TopicsChanged => "topics_changed",
            RebalanceCause::AssignmentLost => "assignment_lost",
        }
    }
}

/// Why a member was removed that did not leave by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalCause {
    /// Nothing was heard of it for its session timeout.
    Session,
    /// It did not join again, or give back what was taken from it, in time.
    Rebalance,
    /// It joined and then did not ask for its assignment.
    Sync,
}

impl RemovalCause {
    pub const ALL: [RemovalCause; 3] = [
        RemovalCause::Session,
        RemovalCause::Rebalance,
        RemovalCause::Sync,
    ];

    /// The label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            RemovalCause::Session => "session_timeout",
            RemovalCause::Rebalance => "rebalance_timeout",
            RemovalCause::Sync => "sync_timeout",
        }
    }
}

/// Something worth a log line or a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// A rebalance begins.
    RebalanceStarted {
        group: String,
        cause: RebalanceCause,
        reason: String,
    },
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
        cause: RemovalCause,
        reason: &'static str,
    },
    /// The group goes on as one of the other kind, `classic` or `consumer`.
    Converted { group: String, to: &'static str },
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
            topics: &NoTopics,
            configs: &|_| GroupConfig {
                session_timeout_ms: None,
                heartbeat_interval_ms: None,
                assignment_interval_ms: None,
            },
            answers: Vec::new(),
            events: Vec::new(),
            held: None,
        }
    }

    /// Lends the topics of the cluster: every turn of a host that has topics needs them.
    #[must_use]
    pub fn with_topics(mut self, topics: &'a dyn Topics) -> Turn<'a> {
        self.topics = topics;
        self
    }

    /// Lends what is configured for single groups.
    #[must_use]
    pub fn with_configs(mut self, configs: &'a dyn Fn(&str) -> GroupConfig) -> Turn<'a> {
        self.configs = configs;
        self
    }

    pub fn answer(&mut self, token: Token, answer: Answer) {
        self.answers.push((token, answer));
    }
}
