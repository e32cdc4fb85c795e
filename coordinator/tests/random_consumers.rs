//! Consumer groups under any history: seeds choose who joins, beats, loses answers, leaves,
//! restarts or falls silent, which topics come and go, how much time passes, which appends fail,
//! and when the coordinator is lost. Clients of both protocols share the groups, which change
//! their kind.
//!
//! After every step: no partition is with two; what a client has, the coordinator knows of; epochs
//! only grow; the log says what the coordinator says, whole or compacted. In the end everybody
//! beats, and every partition that is read is with exactly one of its readers. `SEEDS=n` tries
//! more, `FIRST_SEED=n` others, `SEED=n` only that one.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_coordinator::command::{
    Client, CommitOffsets, CommittedOffset, ConsumerHeartbeat, ConsumerHeartbeatReply, Heartbeat,
    JoinGroup, JoinReply, JoinedMember, LeaveGroup, LeavingMember, MemberRef, SyncGroup,
    TopicPartitionId, TopicPartitions,
};
use ottla_coordinator::records::{Decoded, GroupRecord};
use ottla_coordinator::{
    Answer, GroupCoordinator, GroupLimits, Journal, JournalError, Token, Topic, Topics, Turn,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use uuid::Uuid;

const GROUPS: [&str; 2] = ["g", "h"];
const NAMES: [&str; 3] = ["a1", "a2", "b"];
const BEAT_MS: i64 = 3_000;

struct Random(u64);

impl Random {
    /// xorshift64*
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

type Partition = (TopicId, i32);

#[derive(Default)]
struct Cluster {
    version: u64,
    topics: BTreeMap<&'static str, (TopicId, i32)>,
}

impl Cluster {
    fn change(&mut self, name: &'static str, partitions: i32) {
        self.version += 1;
        let fresh = TopicId(Uuid::from_u128(u128::from(self.version)));
        match self.topics.get_mut(name) {
            Some(_) if partitions == 0 => {
                self.topics.remove(name);
            }
            Some((_, known)) => *known = partitions.max(*known),
            None => {
                self.topics.insert(name, (fresh, partitions.max(1)));
            }
        }
    }

    fn partitions(&self, name: &str) -> Vec<Partition> {
        let topic = self.topics.get(name).into_iter();
        topic
            .flat_map(|(id, count)| (0..*count).map(|partition| (*id, partition)))
            .collect()
    }
}

impl Topics for Cluster {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<Topic<'_>> {
        let (name, (id, partitions)) = self.topics.get_key_value(name)?;
        Some(Topic {
            id: *id,
            name,
            partitions: *partitions,
        })
    }

    fn by_id(&self, id: TopicId) -> Option<Topic<'_>> {
        let name = self.topics.iter().find(|(_, (known, _))| *known == id)?.0;
        self.by_name(name)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.topics.keys().copied())
    }
}

/// The log's bytes, and a copy of the coordinator that follows them.
#[derive(Default)]
struct Log {
    records: Vec<(Bytes, Option<Bytes>)>,
    replica: GroupCoordinator,
    fails: bool,
}

fn replay(coordinator: &mut GroupCoordinator, (key, value): &(Bytes, Option<Bytes>)) {
    match GroupRecord::decode(key, value.as_deref()).unwrap() {
        Decoded::Record(record) => coordinator.replay(&record),
        Decoded::Unknown { .. } => panic!("a record of ours is known"),
    }
}

impl Journal for Log {
    fn append(&mut self, records: &[GroupRecord]) -> Result<(), JournalError> {
        assert!(!records.is_empty(), "nothing is not appended");
        if self.fails {
            return Err(JournalError(ErrorCode::NOT_COORDINATOR));
        }
        for record in records {
            let encoded = record.encode();
            replay(&mut self.replica, &encoded);
            self.records.push(encoded);
        }
        Ok(())
    }
}

impl Log {
    /// Of the records before `end` only the last of each key is left, without `tombstones` only
    /// those with a value; the later ones are all there.
    fn compacted(&self, end: usize, tombstones: bool) -> GroupCoordinator {
        let mut last: BTreeMap<&Bytes, usize> = BTreeMap::new();
        for (at, (key, _)) in self.records[..end].iter().enumerate() {
            last.insert(key, at);
        }
        let mut coordinator = GroupCoordinator::new();
        for (at, record) in self.records.iter().enumerate() {
            let is_last = last.get(&record.0) == Some(&at);
            if at >= end || (is_last && (tombstones || record.1.is_some())) {
                replay(&mut coordinator, record);
            }
        }
        coordinator
    }
}

impl Log {
    /// Only what is there, in the order of the keys: as an image of the log holds it.
    fn by_key(&self) -> GroupCoordinator {
        let last: BTreeMap<&Bytes, &Option<Bytes>> = self
            .records
            .iter()
            .map(|(key, value)| (key, value))
            .collect();
        let mut coordinator = GroupCoordinator::new();
        for (key, value) in last.into_iter().filter(|(_, value)| value.is_some()) {
            replay(&mut coordinator, &(key.clone(), value.clone()));
        }
        coordinator
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    Nothing,
    Join(Token),
    Joined,
    Sync(Token),
    Member,
}

/// A client. A polite one beats in time, acknowledges, and never goes.
#[derive(Debug)]
struct Actor {
    group: &'static str,
    polite: bool,
    classic: bool,
    instance: Option<String>,
    names: Vec<String>,
    regex: Option<&'static str>,
    member_id: String,
    /// 0: no member; of a classic client the generation.
    epoch: i32,
    owned: BTreeSet<Partition>,
    /// What it was told last that it shall have.
    told: BTreeSet<Partition>,
    /// The last answer did not come: everything is said again.
    unsure: bool,
    heard_ms: i64,
    doing: Doing,
    joined: Vec<JoinedMember>,
    /// The topics as it assigned them, when it led a classic group.
    assigned_version: u64,
}

impl Actor {
    /// It gives everything up and begins anew.
    fn reset(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.told.clear();
        self.unsure = false;
        self.doing = Doing::Nothing;
    }

    fn reads(&self, name: &str) -> bool {
        let matches = self.regex.is_some_and(|_| name.starts_with('a'));
        matches || self.names.iter().any(|read| read == name)
    }
}

fn by_topic(partitions: &BTreeSet<Partition>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic_id, partition) in partitions {
        topics.entry(*topic_id).or_default().push(*partition);
    }
    let topics = topics
        .into_iter()
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id,
            partitions,
        });
    topics.collect()
}

struct World {
    coordinator: GroupCoordinator,
    log: Log,
    cluster: Cluster,
    limits: GroupLimits,
    now_ms: i64,
    random: Random,
    ids: u128,
    tokens: u64,
    open: BTreeMap<Token, usize>,
    actors: Vec<Actor>,
    epochs: BTreeMap<&'static str, i32>,
    accepted: usize,
    conversions: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut coordinator = GroupCoordinator::new();
        coordinator.finish_loading(0);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let classics = random.below(4);
        let count = 4 + random.below(8);
        let actors = (0..count).map(|number| {
            let classic = number < classics;
            let reads = random.below(5);
            Actor {
                group: GROUPS[usize::from(random.one_in(4))],
                polite: number % 2 == 0,
                classic,
                instance: (!classic && number % 4 == 1).then(|| format!("i{}", number % 3)),
                names: match reads {
                    0..=2 => vec!["a1".to_owned(), "b".to_owned()],
                    3 => NAMES.iter().map(|name| (*name).to_owned()).collect(),
                    _ => vec!["b".to_owned()],
                },
                regex: (!classic && reads == 4).then_some("a.*"),
                member_id: String::new(),
                epoch: 0,
                owned: BTreeSet::new(),
                told: BTreeSet::new(),
                unsure: false,
                heard_ms: 0,
                doing: Doing::Nothing,
                joined: Vec::new(),
                assigned_version: 0,
            }
        });
        let actors = actors.collect();
        let mut limits = GroupLimits {
            initial_rebalance_delay_ms: 0,
            ..GroupLimits::default()
        };
        limits.consumer.assignment_interval_ms = [0, 1_000][random.below(2) as usize];
        let mut cluster = Cluster::default();
        for name in NAMES {
            cluster.change(name, 1 + random.below(5) as i32);
        }
        World {
            coordinator,
            log: Log::default(),
            cluster,
            limits,
            now_ms: 0,
            random,
            ids: 0,
            tokens: 0,
            open: BTreeMap::new(),
            actors,
            epochs: BTreeMap::new(),
            accepted: 0,
            conversions: 0,
        }
    }

    fn turn<R>(&mut self, body: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> R) -> R {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            Uuid::from_u128(*ids)
        };
        let turn = Turn::new(self.now_ms, &self.limits, &mut self.log, &mut new_id);
        let mut turn = turn.with_topics(&self.cluster);
        let result = body(&mut self.coordinator, &mut turn);
        let (answers, events) = (turn.answers, turn.events);
        let converted = |event: &&ottla_coordinator::turn::GroupEvent| {
            matches!(event, ottla_coordinator::turn::GroupEvent::Converted { .. })
        };
        self.conversions += events.iter().filter(converted).count();
        for (token, answer) in answers {
            let who = self
                .open
                .remove(&token)
                .expect("a request is answered once");
            self.hear(who, token, answer);
        }
        self.coordinator.check_invariants();
        assert_eq!(self.log.replica.snapshot(), self.coordinator.snapshot());
        self.check_epochs();
        result
    }

    fn check_epochs(&mut self) {
        for group in GROUPS {
            let described = self
                .coordinator
                .describe_consumer(&self.cluster, &self.limits, group);
            // A group that is empty, or of the other kind, may begin anew.
            let Some(described) = described.ok().filter(|group| !group.members.is_empty()) else {
                self.epochs.remove(group);
                continue;
            };
            let before = self.epochs.insert(group, described.group_epoch);
            assert!(before.is_none_or(|before| before <= described.group_epoch));
            assert!(described.assignment_epoch <= described.group_epoch);
        }
    }

    /// What a client has, its coordinator knows of. Called when all have acted on their answers.
    fn check_owned(&self) {
        for group in GROUPS {
            let described = self
                .coordinator
                .describe_consumer(&self.cluster, &self.limits, group);
            let Ok(described) = described else { continue };
            for member in described.members {
                let known = member.assignment.iter().flat_map(|topic| {
                    topic
                        .partitions
                        .iter()
                        .map(|partition| (topic.topic_id, *partition))
                });
                let known: BTreeSet<Partition> = known.collect();
                let actor = self.actors.iter().find(|actor| {
                    actor.group == group && actor.member_id == member.member_id && actor.epoch > 0
                });
                let Some(actor) = actor else { continue };
                for (topic_id, partition) in &actor.owned {
                    let exists = self.cluster.by_id(*topic_id).is_some();
                    assert!(
                        !exists || known.contains(&(*topic_id, *partition)),
                        "{actor:?} has more than {known:?}"
                    );
                }
            }
        }
    }

    fn act(&mut self, who: usize) {
        self.actors[who].heard_ms = self.now_ms;
        if self.actors[who].classic {
            self.act_classic(who);
        } else {
            let lose = !self.log.fails && self.random.one_in(12);
            self.live(who, lose);
        }
        self.check_owned();
    }

    fn live(&mut self, who: usize, lose: bool) {
        let slow = self.random.one_in(3);
        let fresh = self.random.below(1 << 30);
        let actor = &mut self.actors[who];
        // It gives back first, then it takes.
        let before = actor.owned.clone();
        actor
            .owned
            .retain(|partition| actor.told.contains(partition));
        if !slow {
            actor.owned.clone_from(&actor.told);
        }
        if actor.member_id.is_empty() {
            actor.member_id = format!("n{who}-{fresh}");
        }
        let joins = actor.epoch == 0;
        let full = joins || actor.unsure;
        let reports = full || before != actor.owned || slow;
        let request = ConsumerHeartbeat {
            group: actor.group.to_owned(),
            member_id: actor.member_id.clone(),
            member_epoch: actor.epoch,
            instance_id: actor.instance.clone(),
            rack_id: None,
            client: Client::default(),
            rebalance_timeout_ms: if full { 20_000 } else { -1 },
            subscribed_topic_names: full.then(|| actor.names.clone()),
            subscribed_topic_regex: actor.regex.filter(|_| full).map(str::to_owned),
            server_assignor: None,
            owned: reports.then(|| by_topic(&actor.owned)),
            makes_own_id: true,
        };
        let reply = self.turn(|c, turn| c.consumer_heartbeat(turn, request));
        let actor = &mut self.actors[who];
        if lose {
            // It said that it does not have what it has not taken yet, and that may be with another
            // now: it takes it only when it is told again.
            actor.told.clone_from(&actor.owned);
            actor.unsure = true;
            return;
        }
        self.learn(who, joins, reply);
    }

    fn learn(&mut self, who: usize, joined: bool, reply: ConsumerHeartbeatReply) {
        let actor = &mut self.actors[who];
        match reply.error {
            ErrorCode::NONE => {
                self.accepted += 1;
                assert!(
                    joined || reply.member_epoch >= actor.epoch,
                    "{actor:?}: {reply:?}"
                );
                assert!(reply.member_epoch > 0);
                actor.epoch = reply.member_epoch;
                actor.unsure = false;
                if let Some(assignment) = reply.assignment {
                    let told = assignment.iter().flat_map(|topic| {
                        topic
                            .partitions
                            .iter()
                            .map(|partition| (topic.topic_id, *partition))
                    });
                    actor.told = told.collect();
                }
            }
            ErrorCode::FENCED_MEMBER_EPOCH => actor.reset(),
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND => {
                let lives = actor.polite && actor.epoch > 0 && actor.instance.is_none();
                assert!(!lives, "a live member was lost: {actor:?}: {reply:?}");
                actor.reset();
            }
            ErrorCode::FENCED_INSTANCE_ID => {
                actor.reset();
                actor.member_id.clear();
            }
            _ => actor.unsure = true,
        }
    }

    fn token(&mut self, who: usize) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.open.insert(token, who);
        token
    }

    /// What the classic protocol wants next.
    fn act_classic(&mut self, who: usize) {
        let actor = &self.actors[who];
        let leads = !actor.joined.is_empty();
        if actor.doing == Doing::Member && leads && actor.assigned_version != self.cluster.version {
            // A leader that sees other topics assigns anew.
            return self.join(who);
        }
        match self.actors[who].doing {
            Doing::Join(_) => {}
            Doing::Sync(_) | Doing::Member => self.beat(who),
            Doing::Joined => self.sync(who),
            Doing::Nothing => self.join(who),
        }
    }

    /// It gives everything up before it joins.
    fn join(&mut self, who: usize) {
        let token = self.token(who);
        let actor = &mut self.actors[who];
        actor.owned.clear();
        actor.doing = Doing::Join(token);
        let request = JoinGroup {
            group: actor.group.to_owned(),
            member_id: actor.member_id.clone(),
            instance_id: None,
            client: Client::default(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription(&actor.names))],
            session_timeout_ms: 20_000,
            rebalance_timeout_ms: 20_000,
            requires_known_member_id: who.is_multiple_of(2),
            supports_skipping_assignment: true,
            reason: None,
        };
        self.turn(|c, turn| c.join(turn, token, request));
    }

    fn sync(&mut self, who: usize) {
        let token = self.token(who);
        let assignments = self.lead(&self.actors[who].joined);
        let version = self.cluster.version;
        let actor = &mut self.actors[who];
        actor.doing = Doing::Sync(token);
        actor.assigned_version = version;
        let request = SyncGroup {
            group: actor.group.to_owned(),
            member: MemberRef {
                member_id: actor.member_id.clone(),
                instance_id: None,
                generation: actor.epoch,
            },
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments,
        };
        self.turn(|c, turn| c.sync(turn, token, request));
    }

    /// The leader's assignment: each topic goes round those that read it.
    fn lead(&self, members: &[JoinedMember]) -> Vec<(String, Bytes)> {
        let mut shares: Vec<BTreeMap<&str, Vec<i32>>> = vec![BTreeMap::new(); members.len()];
        for (name, (_, count)) in &self.cluster.topics {
            let reads = |member: &JoinedMember| topics_of(&member.metadata).contains(*name);
            let readers = (0..members.len()).filter(|at| reads(&members[*at]));
            let readers: Vec<usize> = readers.collect();
            for partition in 0..*count {
                if let Some(reader) = readers.get(partition as usize % readers.len().max(1)) {
                    shares[*reader].entry(name).or_default().push(partition);
                }
            }
        }
        let each = members.iter().zip(shares);
        each.map(|(member, share)| (member.member_id.clone(), assignment(&share)))
            .collect()
    }

    fn beat(&mut self, who: usize) {
        let actor = &self.actors[who];
        let request = Heartbeat {
            group: actor.group.to_owned(),
            member: MemberRef {
                member_id: actor.member_id.clone(),
                instance_id: None,
                generation: actor.epoch,
            },
        };
        let error = self.turn(|c, turn| c.heartbeat(turn, request));
        self.judge(who, error);
    }

    fn judge(&mut self, who: usize, error: ErrorCode) {
        let actor = &mut self.actors[who];
        match error {
            ErrorCode::NONE => self.accepted += 1,
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {
                actor.owned.clear();
                actor.doing = Doing::Nothing;
            }
            ErrorCode::UNKNOWN_MEMBER_ID => {
                actor.reset();
                actor.member_id.clear();
            }
            _ => actor.doing = Doing::Nothing,
        }
    }

    fn hear(&mut self, who: usize, token: Token, answer: Answer) {
        let actor = &mut self.actors[who];
        actor.heard_ms = self.now_ms;
        if actor.doing != Doing::Join(token) && actor.doing != Doing::Sync(token) {
            return;
        }
        actor.doing = Doing::Nothing;
        match answer {
            Answer::Join(JoinReply {
                error,
                member_id,
                generation,
                members,
                ..
            }) => {
                if error == ErrorCode::NONE || error == ErrorCode::MEMBER_ID_REQUIRED {
                    actor.member_id = member_id;
                }
                if error == ErrorCode::NONE {
                    actor.epoch = generation;
                    actor.joined = members;
                    actor.doing = Doing::Joined;
                } else {
                    self.judge(who, error);
                }
            }
            Answer::Sync(reply) if reply.error == ErrorCode::NONE => {
                let owned = assigned(&reply.assignment, &self.cluster);
                let actor = &mut self.actors[who];
                actor.owned = owned;
                actor.doing = Doing::Member;
                self.accepted += 1;
            }
            Answer::Sync(reply) => self.judge(who, reply.error),
        }
    }

    fn leave(&mut self, who: usize, epoch: i32) {
        let actor = &mut self.actors[who];
        let member_id = actor.member_id.clone();
        let (group, instance) = (actor.group.to_owned(), actor.instance.clone());
        actor.reset();
        if actor.classic {
            actor.member_id.clear();
            let leaving = LeavingMember {
                member_id,
                ..LeavingMember::default()
            };
            let request = LeaveGroup {
                group,
                members: vec![leaving],
            };
            let _ = self.turn(|c, turn| c.leave(turn, request));
            return;
        }
        if epoch == -2 {
            actor.member_id.clear();
        }
        let request = ConsumerHeartbeat {
            group,
            member_id,
            member_epoch: epoch,
            instance_id: instance,
            rebalance_timeout_ms: -1,
            ..ConsumerHeartbeat::default()
        };
        self.turn(|c, turn| c.consumer_heartbeat(turn, request));
    }

    fn commit(&mut self, who: usize) {
        let actor = &self.actors[who];
        let offsets = actor.owned.iter().map(|(topic_id, partition)| {
            let key = TopicPartitionId {
                topic: topic_id.to_string(),
                topic_id: *topic_id,
                partition: *partition,
            };
            let committed = CommittedOffset {
                offset: Offset(self.now_ms),
                leader_epoch: LeaderEpoch(1),
                metadata: String::new(),
            };
            (key, committed)
        });
        let request = CommitOffsets {
            group: actor.group.to_owned(),
            member: MemberRef {
                member_id: actor.member_id.clone(),
                instance_id: None,
                generation: actor.epoch,
            },
            knows_member_epochs: true,
            retention_ms: None,
            offsets: offsets.collect(),
        };
        let _ = self.turn(|c, turn| c.commit(turn, request));
    }

    /// Another coordinator reads the log, which may have been compacted up to anywhere.
    fn fail_over(&mut self) {
        let snapshot = self.coordinator.snapshot();
        let end = self.random.below(self.log.records.len() as u64 + 1) as usize;
        for tombstones in [true, false] {
            assert_eq!(self.log.compacted(end, tombstones).snapshot(), snapshot);
        }
        assert_eq!(self.log.by_key().snapshot(), snapshot);
        let mut next = self.log.compacted(end, self.random.one_in(2));
        next.finish_loading(self.now_ms);
        self.coordinator = next;
        self.open.clear();
        for actor in self.actors.iter_mut().filter(|actor| actor.classic) {
            // Who waited, or joined a generation that was lost, joins again.
            actor.owned.clear();
            actor.doing = Doing::Nothing;
        }
    }

    fn pass(&mut self, by_ms: i64) {
        let to_ms = self.now_ms + by_ms;
        loop {
            let polite = self.actors.iter().filter(|actor| actor.polite);
            let beat_ms = polite
                .map(|actor| actor.heard_ms + BEAT_MS)
                .min()
                .unwrap_or(to_ms);
            let due_ms = self.coordinator.next_deadline_ms().unwrap_or(to_ms);
            let next_ms = due_ms.min(beat_ms);
            if next_ms >= to_ms {
                break;
            }
            self.now_ms = self.now_ms.max(next_ms);
            self.polite_ones_act();
            self.turn(GroupCoordinator::tick);
        }
        self.now_ms = to_ms;
        self.polite_ones_act();
        self.turn(GroupCoordinator::tick);
    }

    fn polite_ones_act(&mut self) {
        for who in 0..self.actors.len() {
            if self.actors[who].polite && self.actors[who].heard_ms + BEAT_MS <= self.now_ms {
                self.act(who);
            }
        }
    }

    fn step(&mut self) {
        let who = self.random.below(self.actors.len() as u64) as usize;
        let polite = self.actors[who].polite;
        self.log.fails = self.random.one_in(20);
        match self.random.below(20) {
            0..=10 => self.act(who),
            11 if !polite => self.leave(who, -1),
            12 if !polite && self.actors[who].instance.is_some() => self.leave(who, -2),
            13 if !polite => {
                // It restarts without a word.
                self.actors[who].reset();
                self.actors[who].member_id.clear();
            }
            14 if self.random.one_in(4) => self.fail_over(),
            15 => self.commit(who),
            16 => {
                let name = NAMES[self.random.below(3) as usize];
                let partitions = [0, 1, 3, 6][self.random.below(4) as usize];
                self.cluster.change(name, partitions);
            }
            17..=19 => {
                let by_ms = [1, 100, 2_000, 9_000, 30_000][self.random.below(5) as usize];
                // Who cannot be written down for long is lost, however polite.
                self.log.fails &= by_ms <= 2_000;
                self.pass(by_ms);
            }
            _ => {}
        }
    }

    /// The others go and the polite ones beat on: every partition that is read is with one of its
    /// readers, and nothing moves any more.
    fn settle(&mut self) {
        self.log.fails = false;
        for who in 0..self.actors.len() {
            if !self.actors[who].polite && !self.actors[who].member_id.is_empty() {
                self.leave(who, -1);
            }
        }
        for _ in 0..20 {
            self.pass(10_000);
        }
        for group in GROUPS {
            self.check_settled(group);
        }
    }

    fn check_settled(&self, group: &'static str) {
        let members = self
            .actors
            .iter()
            .filter(|actor| actor.polite && actor.group == group);
        let members: Vec<&Actor> = members.collect();
        if members.is_empty() {
            return;
        }
        let described = self
            .coordinator
            .describe_consumer(&self.cluster, &self.limits, group);
        let state = match &described {
            Ok(described) => described.state,
            Err(_) => self.coordinator.describe(group).unwrap().state,
        };
        assert_eq!(state, "Stable", "{described:?} {members:?}");
        let natives = members.iter().any(|actor| !actor.classic);
        assert_eq!(
            described.is_ok(),
            natives,
            "{group} is of the wrong kind: {members:?}"
        );
        for name in NAMES {
            for partition in self.cluster.partitions(name) {
                let owners = members.iter().filter(|actor| actor.told_of(&partition));
                let owners: Vec<&&Actor> = owners.collect();
                let read = members.iter().any(|actor| actor.reads(name));
                assert_eq!(
                    owners.len(),
                    usize::from(read),
                    "{name} {partition:?}: {members:?}"
                );
                assert!(owners.iter().all(|actor| actor.reads(name)));
            }
        }
    }
}

impl Actor {
    fn told_of(&self, partition: &Partition) -> bool {
        let has = if self.classic {
            &self.owned
        } else {
            &self.told
        };
        has.contains(partition)
    }
}

fn subscription(names: &[String]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(i32::try_from(names.len()).unwrap());
    for name in names {
        bytes.put_i16(i16::try_from(name.len()).unwrap());
        bytes.put_slice(name.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.put_i32(0);
    bytes.freeze()
}

fn text(bytes: &mut Bytes) -> String {
    let len = usize::try_from(bytes.get_i16()).unwrap();
    String::from_utf8(bytes.split_to(len).to_vec()).unwrap()
}

fn topics_of(metadata: &Bytes) -> BTreeSet<String> {
    let mut bytes = metadata.clone();
    bytes.get_i16();
    (0..bytes.get_i32()).map(|_| text(&mut bytes)).collect()
}

fn assignment(share: &BTreeMap<&str, Vec<i32>>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(i32::try_from(share.len()).unwrap());
    for (name, partitions) in share {
        bytes.put_i16(i16::try_from(name.len()).unwrap());
        bytes.put_slice(name.as_bytes());
        bytes.put_i32(i32::try_from(partitions.len()).unwrap());
        partitions
            .iter()
            .for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn assigned(assignment: &Bytes, cluster: &Cluster) -> BTreeSet<Partition> {
    let mut bytes = assignment.clone();
    let mut owned = BTreeSet::new();
    if bytes.is_empty() {
        return owned;
    }
    bytes.get_i16();
    for _ in 0..bytes.get_i32() {
        let name = text(&mut bytes);
        for _ in 0..bytes.get_i32() {
            let partition = bytes.get_i32();
            owned.extend(cluster.by_name(&name).map(|topic| (topic.id, partition)));
        }
    }
    owned
}

fn from_env(key: &str) -> Option<u64> {
    let text = std::env::var(key).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{key}={text}")))
}

#[test]
fn no_partition_is_with_two_and_in_the_end_none_is_left_out() {
    let one = from_env("SEED");
    let first = one.or_else(|| from_env("FIRST_SEED")).unwrap_or(1);
    let seeds = one.map_or_else(|| from_env("SEEDS").unwrap_or(60), |_| 1);
    let (mut accepted, mut conversions) = (0, 0);
    for seed in first..first + seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..250 {
                world.step();
            }
            world.settle();
            (world.accepted, world.conversions)
        });
        let (of_accepted, of_conversions) = result.unwrap_or_else(|_| panic!("seed {seed}"));
        accepted += of_accepted;
        conversions += of_conversions;
    }
    println!("{accepted} requests accepted, {conversions} conversions");
    if one.is_some() {
        return;
    }
    assert!(
        accepted > 100 * seeds as usize,
        "only {accepted} were accepted"
    );
    assert!(
        conversions > seeds as usize / 4,
        "only {conversions} conversions"
    );
}
