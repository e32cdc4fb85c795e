//! Large groups and many groups cost what they must and no more.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_coordinator::command::{
    Client, ConsumerHeartbeat, JoinGroup, JoinReply, LeaveGroup, LeavingMember, ListFilter,
    MemberRef, SyncGroup, TopicPartitions,
};
use ottla_coordinator::records::{GroupRecord, OffsetValue};
use ottla_coordinator::{
    Answer, GroupCoordinator, GroupLimits, Journal, JournalError, Token, Topic, Topics, Turn,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use uuid::Uuid;

struct Nowhere;

impl Journal for Nowhere {
    fn append(&mut self, _: &[GroupRecord]) -> Result<(), JournalError> {
        Ok(())
    }
}

struct Host {
    coordinator: GroupCoordinator,
    limits: GroupLimits,
    ids: u128,
    now_ms: i64,
}

impl Host {
    fn turn(&mut self, body: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>)) -> Vec<Answer> {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            Uuid::from_u128(*ids)
        };
        let mut journal = Nowhere;
        let turn = Turn::new(self.now_ms, &self.limits, &mut journal, &mut new_id);
        let mut turn = turn.with_topics(&ManyTopics);
        body(&mut self.coordinator, &mut turn);
        turn.answers.into_iter().map(|(_, answer)| answer).collect()
    }

    fn join(&mut self, member_id: &str) -> Vec<JoinReply> {
        let request = JoinGroup {
            group: "g".to_owned(),
            member_id: member_id.to_owned(),
            instance_id: None,
            client: Client::default(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::from_static(&[0; 100]))],
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            requires_known_member_id: false,
            supports_skipping_assignment: true,
            reason: None,
        };
        let answers = self.turn(|c, turn| c.join(turn, Token(0), request));
        answers.into_iter().map(joined).collect()
    }

    /// Everybody syncs, the leader last; returns how many are assigned.
    fn sync(&mut self, members: &[JoinReply]) -> usize {
        let leader = &members[0].leader;
        let (followers, leaders): (Vec<_>, Vec<_>) =
            members.iter().partition(|reply| &reply.member_id != leader);
        let mut assigned = 0;
        for reply in followers.into_iter().chain(leaders) {
            let assignments = reply.members.iter();
            let assignments = assignments.map(|m| (m.member_id.clone(), Bytes::from_static(b"t")));
            let request = SyncGroup {
                group: "g".to_owned(),
                member: MemberRef {
                    member_id: reply.member_id.clone(),
                    instance_id: None,
                    generation: reply.generation,
                },
                protocol_type: None,
                protocol_name: None,
                assignments: assignments.collect(),
            };
            let answers = self.turn(|c, turn| c.sync(turn, Token(0), request));
            assigned += answers
                .iter()
                .filter(|a| matches!(a, Answer::Sync(reply) if reply.error == ErrorCode::NONE))
                .count();
        }
        assigned
    }
}

fn joined(answer: Answer) -> JoinReply {
    match answer {
        Answer::Join(reply) => reply,
        Answer::Sync(reply) => panic!("{reply:?}"),
    }
}

fn host() -> Host {
    Host {
        coordinator: GroupCoordinator::new(),
        limits: GroupLimits::default(),
        ids: 0,
        now_ms: 0,
    }
}

#[test]
fn a_thousand_members_become_stable_and_again_when_a_hundred_leave() {
    let mut host = host();
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(host.join(""), Vec::new(), "all wait for the initial delay");
    }
    let mut members = Vec::new();
    while members.is_empty() {
        host.now_ms = host.coordinator.next_deadline_ms().unwrap();
        members = host
            .turn(GroupCoordinator::tick)
            .into_iter()
            .map(joined)
            .collect();
    }
    assert_eq!(members.len(), 1_000);
    assert_eq!(host.sync(&members), 1_000);
    for reply in members.drain(..100) {
        let leaving = LeavingMember {
            member_id: reply.member_id,
            ..LeavingMember::default()
        };
        let request = LeaveGroup {
            group: "g".to_owned(),
            members: vec![leaving],
        };
        host.turn(|c, turn| c.leave(turn, request).map(drop).unwrap());
    }
    let again: Vec<JoinReply> = members
        .iter()
        .flat_map(|reply| host.join(&reply.member_id))
        .collect();
    assert_eq!(again.len(), 900);
    assert_eq!(host.sync(&again), 900);
    let took = begun.elapsed();
    println!("1,000 members, two generations: {took:?}");
    host.coordinator.check_invariants();
    assert_eq!(host.coordinator.describe("g").unwrap().state, "Stable");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_hundred_thousand_groups_are_loaded_and_listed() {
    let mut host = host();
    let begun = Instant::now();
    for number in 0..100_000 {
        host.coordinator.replay(&GroupRecord::Offset {
            group: format!("group-{number}"),
            topic: "t".to_owned(),
            partition: 0,
            value: Some(OffsetValue {
                offset: Offset(number),
                leader_epoch: LeaderEpoch(0),
                metadata: String::new(),
                commit_timestamp_ms: 0,
                expire_timestamp_ms: None,
                topic_id: TopicId::ZERO,
            }),
        });
    }
    host.coordinator.finish_loading(0);
    let loaded = begun.elapsed();
    assert_eq!(host.coordinator.list(&ListFilter::default()).len(), 100_000);
    let listed = begun.elapsed() - loaded;
    host.now_ms = host.coordinator.next_deadline_ms().unwrap();
    host.turn(GroupCoordinator::tick);
    let aged = begun.elapsed() - loaded - listed;
    println!(
        "100,000 groups: loaded in {loaded:?}, listed in {listed:?}, looked through in {aged:?}"
    );
    assert_eq!(host.coordinator.offset_count(), 100_000);
    assert!(loaded + listed + aged < Duration::from_secs(10));
}

/// A hundred topics of ten partitions.
struct ManyTopics;

const TOPICS: [&str; 100] = {
    let mut names = [""; 100];
    let digits = "00010203040506070809101112131415161718192021222324252627282930313233343536373839\
                  40414243444546474849505152535455565758596061626364656667686970717273747576777879\
                  8081828384858687888990919293949596979899";
    let mut at = 0;
    while at < 100 {
        names[at] = digits.split_at(2 * at).1.split_at(2).0;
        at += 1;
    }
    names
};

fn topic(at: usize) -> Topic<'static> {
    Topic {
        id: TopicId(Uuid::from_u128(1 + at as u128)),
        name: TOPICS[at],
        partitions: 10,
    }
}

impl Topics for ManyTopics {
    fn version(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<Topic<'_>> {
        name.parse().ok().filter(|at| *at < 100).map(topic)
    }

    fn by_id(&self, id: TopicId) -> Option<Topic<'_>> {
        let at = usize::try_from(id.0.as_u128()).ok()?.checked_sub(1)?;
        (at < 100).then(|| topic(at))
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(TOPICS.into_iter())
    }
}

/// A member of a consumer group that does at once what it is told.
struct Consumer {
    id: String,
    epoch: i32,
    told: Vec<TopicPartitions>,
    reads: Vec<String>,
}

impl Host {
    fn live(&mut self, consumer: &mut Consumer) {
        let joins = consumer.epoch == 0;
        let request = ConsumerHeartbeat {
            group: "k".to_owned(),
            member_id: consumer.id.clone(),
            member_epoch: consumer.epoch,
            rebalance_timeout_ms: if joins { 300_000 } else { -1 },
            subscribed_topic_names: joins.then(|| consumer.reads.clone()),
            owned: Some(consumer.told.clone()),
            makes_own_id: true,
            ..ConsumerHeartbeat::default()
        };
        let mut reply = None;
        self.turn(|c, turn| reply = Some(c.consumer_heartbeat(turn, request)));
        let reply = reply.unwrap();
        assert_eq!(reply.error, ErrorCode::NONE, "{reply:?}");
        consumer.epoch = reply.member_epoch;
        if let Some(assignment) = reply.assignment {
            consumer.told = assignment;
        }
    }

    fn is_stable(&self) -> bool {
        let described = self
            .coordinator
            .describe_consumer(&ManyTopics, &self.limits, "k");
        described.unwrap().state == "Stable"
    }

    /// Everybody beats every five seconds until nothing moves; how often.
    fn until_stable(&mut self, consumers: &mut [Consumer]) -> usize {
        for round in 1.. {
            self.now_ms += 5_000;
            consumers
                .iter_mut()
                .for_each(|consumer| self.live(consumer));
            if self.is_stable() {
                return round;
            }
            assert!(round < 10, "it does not become stable");
        }
        unreachable!("the rounds have no end")
    }
}

/// 1,000 members join, become stable, and again when 100 of them leave at once.
fn a_large_group(reads: impl Fn(usize) -> Vec<String>, interval_ms: i32) -> Duration {
    let mut host = host();
    host.limits.consumer.assignment_interval_ms = interval_ms;
    host.now_ms = 1_000;
    let begun = Instant::now();
    let consumers = (0..1_000).map(|at| Consumer {
        id: format!("m{at}"),
        epoch: 0,
        told: Vec::new(),
        reads: reads(at),
    });
    let mut consumers: Vec<Consumer> = consumers.collect();
    consumers
        .iter_mut()
        .for_each(|consumer| host.live(consumer));
    let joined = begun.elapsed();
    let rounds = host.until_stable(&mut consumers);
    let stable = begun.elapsed();
    for mut consumer in consumers.drain(..100) {
        consumer.epoch = -1;
        host.live(&mut consumer);
    }
    let again = host.until_stable(&mut consumers);
    let took = begun.elapsed();
    println!(
        "interval {interval_ms} ms: joined in {joined:?}, stable after {rounds} rounds and \
         {stable:?}, again after {again} rounds and {took:?}"
    );
    host.coordinator.check_invariants();
    let owned = consumers.iter().flat_map(|consumer| &consumer.told);
    let owned: usize = owned.map(|topic| topic.partitions.len()).sum();
    assert_eq!(owned, 1_000);
    took
}

#[test]
fn a_consumer_group_of_a_thousand_is_stable_soon_and_again_when_a_hundred_leave() {
    let took = a_large_group(|_| TOPICS.map(str::to_owned).to_vec(), 1_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_consumer_group_of_a_thousand_is_assigned_anew_for_each_of_them() {
    let took = a_large_group(|_| TOPICS.map(str::to_owned).to_vec(), 0);
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_thousand_members_that_read_different_topics_are_stable_soon() {
    let reads = |at: usize| match at % 3 {
        0 => TOPICS.map(str::to_owned).to_vec(),
        1 => TOPICS[..50].iter().map(|name| (*name).to_owned()).collect(),
        _ => TOPICS[50..].iter().map(|name| (*name).to_owned()).collect(),
    };
    let took = a_large_group(reads, 1_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
