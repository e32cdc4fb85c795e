//! Large groups and many groups cost what they must and no more.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_coordinator::command::{
    Client, JoinGroup, JoinReply, LeaveGroup, LeavingMember, ListFilter, MemberRef, SyncGroup,
};
use ottla_coordinator::records::{GroupRecord, OffsetValue};
use ottla_coordinator::{
    Answer, GroupCoordinator, GroupLimits, Journal, JournalError, Token, Turn,
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
        let mut turn = Turn::new(self.now_ms, &self.limits, &mut journal, &mut new_id);
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
