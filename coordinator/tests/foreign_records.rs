//! Logs of consumer groups that others wrote: older Kafkas, newer ones, and nobody at all.

#![allow(clippy::unwrap_used)]

use ottla_coordinator::command::{ConsumerHeartbeat, ConsumerHeartbeatReply, TopicPartitions};
use ottla_coordinator::records::{
    ConsumerMemberValue, ConsumerRecord, CurrentValue, GroupEpochValue, GroupRecord, GroupValue,
    OwnedTopic, RegexValue, TargetEpochValue,
};
use ottla_coordinator::{
    GroupCoordinator, GroupLimits, Journal, JournalError, Topic, Topics, Turn,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::TopicId;
use uuid::Uuid;

fn topic_id() -> TopicId {
    TopicId(Uuid::from_u128(7))
}

/// One topic, `t`, of two partitions.
struct OneTopic;

impl OneTopic {
    fn topic() -> Topic<'static> {
        Topic {
            id: topic_id(),
            name: "t",
            partitions: 2,
        }
    }
}

impl Topics for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<Topic<'_>> {
        (name == "t").then(OneTopic::topic)
    }

    fn by_id(&self, id: TopicId) -> Option<Topic<'_>> {
        (id == topic_id()).then(OneTopic::topic)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(["t"].into_iter())
    }
}

#[derive(Default)]
struct Written(Vec<GroupRecord>);

impl Journal for Written {
    fn append(&mut self, records: &[GroupRecord]) -> Result<(), JournalError> {
        self.0.extend_from_slice(records);
        Ok(())
    }
}

fn of_group(record: ConsumerRecord) -> GroupRecord {
    GroupRecord::Consumer {
        group: "g".to_owned(),
        record,
    }
}

fn member(member_id: &str) -> ConsumerRecord {
    ConsumerRecord::Member {
        member_id: member_id.to_owned(),
        value: Some(ConsumerMemberValue {
            subscribed_topic_names: vec!["t".to_owned()],
            rebalance_timeout_ms: 60_000,
            ..ConsumerMemberValue::default()
        }),
    }
}

/// As before Kafka 4.2: without epochs of the partitions.
fn current(member_id: &str, state: i8, partitions: &[i32]) -> ConsumerRecord {
    ConsumerRecord::Current {
        member_id: member_id.to_owned(),
        value: Some(CurrentValue {
            epoch: 5,
            previous_epoch: 4,
            state,
            assigned: vec![OwnedTopic {
                topic_id: topic_id(),
                partitions: partitions.to_vec(),
                epochs: Vec::new(),
            }],
            pending_revocation: Vec::new(),
        }),
    }
}

fn target(member_id: &str, partitions: &[i32]) -> ConsumerRecord {
    ConsumerRecord::Target {
        member_id: member_id.to_owned(),
        value: Some(vec![TopicPartitions {
            topic_id: topic_id(),
            partitions: partitions.to_vec(),
        }]),
    }
}

/// A group of one member, as Kafka 4.0 wrote it.
fn old_group(state: i8) -> Vec<GroupRecord> {
    let records = vec![
        member("m"),
        ConsumerRecord::PartitionMetadata(Some(vec![0, 0, 1, 0].into())),
        ConsumerRecord::GroupEpoch(Some(GroupEpochValue {
            epoch: 5,
            metadata_hash: 0,
        })),
        target("m", &[0, 1]),
        ConsumerRecord::TargetEpoch(Some(TargetEpochValue {
            epoch: 5,
            timestamp_ms: 0,
        })),
        current("m", state, &[0, 1]),
    ];
    records.into_iter().map(of_group).collect()
}

fn loaded(records: &[GroupRecord]) -> GroupCoordinator {
    let mut coordinator = GroupCoordinator::new();
    records.iter().for_each(|record| coordinator.replay(record));
    coordinator.finish_loading(1_000);
    coordinator
}

fn live(
    coordinator: &mut GroupCoordinator,
    epoch: i32,
    owned: Option<Vec<TopicPartitions>>,
) -> (ConsumerHeartbeatReply, Vec<GroupRecord>) {
    let limits = GroupLimits::default();
    let mut written = Written::default();
    let mut new_id = || Uuid::from_u128(1);
    let turn = Turn::new(2_000, &limits, &mut written, &mut new_id);
    let mut turn = turn.with_topics(&OneTopic);
    let request = ConsumerHeartbeat {
        group: "g".to_owned(),
        member_id: "m".to_owned(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        owned,
        makes_own_id: true,
        ..ConsumerHeartbeat::default()
    };
    let reply = coordinator.consumer_heartbeat(&mut turn, request);
    coordinator.check_invariants();
    (reply, written.0)
}

#[test]
fn a_group_of_kafka_4_0_goes_on_and_what_it_kept_of_its_topics_is_deleted() {
    let mut coordinator = loaded(&old_group(0));
    let (reply, written) = live(&mut coordinator, 5, None);
    assert_eq!((reply.error, reply.member_epoch), (ErrorCode::NONE, 6));
    assert_eq!(reply.assignment, None, "it keeps what it has");
    let gone = of_group(ConsumerRecord::PartitionMetadata(None));
    assert!(written.contains(&gone), "{written:?}");
    let (_, written) = live(&mut coordinator, 6, None);
    assert_eq!(written, Vec::new(), "once");
}

#[test]
fn a_member_in_a_state_of_the_future_begins_anew() {
    let mut coordinator = loaded(&old_group(9));
    let (reply, written) = live(&mut coordinator, 5, None);
    assert_eq!(reply.error, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(written, Vec::new());
    let (reply, _) = live(&mut coordinator, 5, Some(Vec::new()));
    assert_eq!((reply.error, reply.member_epoch), (ErrorCode::NONE, 6));
}

#[test]
fn of_two_kinds_of_a_group_the_later_one_counts() {
    let classic = GroupRecord::Group {
        group: "g".to_owned(),
        value: Some(GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 1,
            protocol: None,
            leader: None,
            current_state_timestamp_ms: 0,
            members: Vec::new(),
        }),
    };
    let group_type = |records: &[GroupRecord]| {
        let listed = loaded(records).list(&Default::default());
        assert_eq!(listed.len(), 1);
        listed[0].group_type
    };
    let mut records = old_group(0);
    records.push(classic);
    assert_eq!(group_type(&records), "classic");
    records.rotate_right(1);
    assert_eq!(group_type(&records), "consumer");
}

/// Nobody writes such logs; they are loaded all the same.
#[test]
fn records_in_any_order_and_number_are_survived() {
    let mut records = old_group(1);
    let others = [
        member("n"),
        current("n", 0, &[1]),
        target("n", &[-1, 0]),
        ConsumerRecord::Regex {
            regex: "(".to_owned(),
            value: Some(RegexValue {
                topics: vec!["t".to_owned(), "t".to_owned()],
                version: -1,
                timestamp_ms: i64::MAX,
            }),
        },
        ConsumerRecord::GroupEpoch(None),
        ConsumerRecord::TargetEpoch(None),
        ConsumerRecord::Member {
            member_id: "m".to_owned(),
            value: None,
        },
        ConsumerRecord::Current {
            member_id: "n".to_owned(),
            value: None,
        },
    ];
    records.extend(others.into_iter().map(of_group));
    let mut random = 1u64;
    let mut below = |bound: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % bound
    };
    for _ in 0..2_000 {
        let count = below(2 * records.len());
        let chosen: Vec<GroupRecord> = (0..count)
            .map(|_| records[below(records.len())].clone())
            .collect();
        let coordinator = loaded(&chosen);
        assert_eq!(
            loaded(&coordinator.snapshot()).snapshot(),
            coordinator.snapshot()
        );
        let limits = GroupLimits::default();
        let mut coordinator = coordinator;
        for epoch in [0, 5, -1] {
            let mut written = Written::default();
            let mut new_id = || Uuid::from_u128(1);
            let turn = Turn::new(2_000, &limits, &mut written, &mut new_id);
            let mut turn = turn.with_topics(&OneTopic);
            let request = ConsumerHeartbeat {
                group: "g".to_owned(),
                member_id: "m".to_owned(),
                member_epoch: epoch,
                rebalance_timeout_ms: 60_000,
                subscribed_topic_names: Some(vec!["t".to_owned()]),
                owned: Some(Vec::new()),
                makes_own_id: true,
                ..ConsumerHeartbeat::default()
            };
            coordinator.consumer_heartbeat(&mut turn, request);
        }
    }
}
