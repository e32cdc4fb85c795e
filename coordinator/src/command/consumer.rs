//! What is asked of consumer groups (KIP-848) and what they answer.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::TopicId;

use super::Client;

/// Partitions of a topic, by the topic's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartitions {
    pub topic_id: TopicId,
    pub partitions: Vec<i32>,
}

/// ConsumerGroupHeartbeat: a member joins, tells what changed, acknowledges, or leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    pub group: String,
    /// Empty only in a join of version 0, where the coordinator makes the id.
    pub member_id: String,
    /// 0 joins, -1 leaves, -2 leaves for a while as a static member.
    pub member_epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client: Client,
    /// -1: unchanged.
    pub rebalance_timeout_ms: i32,
    /// `None`: unchanged.
    pub subscribed_topic_names: Option<Vec<String>>,
    /// `None`: unchanged; empty: no longer.
    pub subscribed_topic_regex: Option<String>,
    /// `None`: unchanged.
    pub server_assignor: Option<String>,
    /// What the member owns; `None`: unchanged.
    pub owned: Option<Vec<TopicPartitions>>,
    /// The client makes its id itself (version 1 and later, KIP-1082).
    pub makes_own_id: bool,
}

/// The answer is complete at once: a heartbeat never waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeatReply {
    pub error: ErrorCode,
    pub message: Option<String>,
    /// `None` with an error.
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None`: unchanged.
    pub assignment: Option<Vec<TopicPartitions>>,
}

/// An error that is told with words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub error: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            error,
            message: message.into(),
        }
    }
}

impl From<Refusal> for ConsumerHeartbeatReply {
    fn from(refusal: Refusal) -> ConsumerHeartbeatReply {
        ConsumerHeartbeatReply {
            error: refusal.error,
            message: Some(refusal.message),
            member_id: None,
            member_epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }
}

/// ConsumerGroupDescribe of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    /// Empty, Assigning, Reconciling or Stable.
    pub state: &'static str,
    pub group_epoch: i32,
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    pub assignor: String,
    pub members: Vec<DescribedConsumerMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumerMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub member_epoch: i32,
    pub client: Client,
    pub subscribed_topic_names: Vec<String>,
    pub subscribed_topic_regex: Option<String>,
    /// What it has, also what it still has to give back.
    pub assignment: Vec<AssignedTopic>,
    /// What it will have.
    pub target: Vec<AssignedTopic>,
    /// It speaks the classic protocol (member type 0; otherwise 1).
    pub is_classic: bool,
}

/// Topics that no longer exist are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedTopic {
    pub topic_id: TopicId,
    pub topic: String,
    pub partitions: Vec<i32>,
}

/// OffsetFetch of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOffsets {
    pub group: String,
    /// Of a member of a consumer group (version 9 and later): checked when either is given.
    pub member_id: Option<String>,
    /// -1: not given.
    pub member_epoch: i32,
    /// `None`: everything.
    pub partitions: Option<Vec<(String, i32)>>,
}
