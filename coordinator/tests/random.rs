//! Many members, any order: seeds choose who joins, syncs, leaves, beats, commits or crashes, how
//! much time passes, and which appends fail. After every step the invariants hold, the log says
//! what the coordinator says, every request was answered at most once, and generations only grow.
//! `SEEDS=n` tries more of them.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_coordinator::command::{
    Client, CommitOffsets, CommittedOffset, Heartbeat, JoinGroup, LeaveGroup, LeavingMember,
    MemberRef, SyncGroup, TopicPartitionId,
};
use ottla_coordinator::records::{Decoded, GroupRecord};
use ottla_coordinator::{
    Answer, GroupCoordinator, GroupLimits, Journal, JournalError, Token, Turn,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use uuid::Uuid;

const GROUPS: [&str; 2] = ["g", "h"];

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

/// A replayed copy follows what is appended, from a snapshot taken now and then.
struct Log {
    replica: GroupCoordinator,
    fails: bool,
}

impl Journal for Log {
    fn append(&mut self, records: &[GroupRecord]) -> Result<(), JournalError> {
        if self.fails {
            return Err(JournalError(ErrorCode::NOT_COORDINATOR));
        }
        for record in records {
            let (key, value) = record.encode();
            match GroupRecord::decode(&key, value.as_deref()).unwrap() {
                Decoded::Record(record) => self.replica.replay(&record),
                Decoded::Unknown { .. } => panic!("a record of ours is known"),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    Nothing,
    Join(Token),
    /// It knows its generation and has not synced.
    Joined,
    Sync(Token),
    Member,
}

/// A client. A polite one beats in time, joins again when it is told to, and never goes.
#[derive(Debug)]
struct Actor {
    group: &'static str,
    polite: bool,
    instance: Option<String>,
    member_id: String,
    generation: i32,
    doing: Doing,
    heard_ms: i64,
    joined: BTreeSet<String>,
}

struct World {
    coordinator: GroupCoordinator,
    log: Log,
    limits: GroupLimits,
    now_ms: i64,
    random: Random,
    ids: u128,
    tokens: u64,
    open: BTreeMap<Token, usize>,
    actors: Vec<Actor>,
    answered: usize,
    stable: usize,
}

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 20_000;

impl World {
    fn new(seed: u64) -> World {
        let mut coordinator = GroupCoordinator::new();
        coordinator.finish_loading(0);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let actors = (0..8 + random.below(12)).map(|number| Actor {
            group: GROUPS[random.below(2) as usize],
            polite: number % 3 == 0,
            instance: (number % 4 == 1).then(|| match number % 3 {
                0 => format!("own{number}"),
                // Two clients of one name fence each other.
                _ => format!("shared{}", number % 8),
            }),
            member_id: String::new(),
            generation: -1,
            doing: Doing::Nothing,
            heard_ms: 0,
            joined: BTreeSet::new(),
        });
        let actors = actors.collect();
        let delay = [0, 3_000][random.below(2) as usize];
        World {
            coordinator,
            log: Log {
                replica: GroupCoordinator::new(),
                fails: false,
            },
            limits: GroupLimits {
                initial_rebalance_delay_ms: delay,
                ..GroupLimits::default()
            },
            now_ms: 0,
            random,
            ids: 0,
            tokens: 0,
            open: BTreeMap::new(),
            actors,
            answered: 0,
            stable: 0,
        }
    }

    fn turn<R>(&mut self, body: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> R) -> R {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            Uuid::from_u128(*ids)
        };
        let mut turn = Turn::new(self.now_ms, &self.limits, &mut self.log, &mut new_id);
        let result = body(&mut self.coordinator, &mut turn);
        for (token, answer) in turn.answers {
            let who = self
                .open
                .remove(&token)
                .expect("a request is answered once");
            self.answered += 1;
            self.hear(who, token, &answer);
        }
        self.coordinator.check_invariants();
        assert_eq!(self.log.replica.snapshot(), self.coordinator.snapshot());
        result
    }

    fn hear(&mut self, who: usize, token: Token, answer: &Answer) {
        let actor = &mut self.actors[who];
        actor.heard_ms = self.now_ms;
        if actor.doing != Doing::Join(token) && actor.doing != Doing::Sync(token) {
            return;
        }
        actor.doing = Doing::Nothing;
        let error = match answer {
            Answer::Join(reply) => {
                if reply.error == ErrorCode::NONE {
                    let grew = reply.generation > actor.generation;
                    let same = reply.generation == actor.generation;
                    assert!(grew || same, "{actor:?} was told {reply:?}");
                    actor.generation = reply.generation;
                    actor.doing = Doing::Joined;
                    actor.joined = reply.members.iter().map(|m| m.member_id.clone()).collect();
                    assert!(actor.joined.is_empty() || actor.joined.contains(&reply.member_id));
                }
                if reply.error == ErrorCode::MEMBER_ID_REQUIRED || reply.error == ErrorCode::NONE {
                    actor.member_id.clone_from(&reply.member_id);
                }
                reply.error
            }
            Answer::Sync(reply) => {
                if reply.error == ErrorCode::NONE {
                    assert!(!reply.assignment.is_empty(), "everybody is assigned");
                    actor.doing = Doing::Member;
                    self.stable += 1;
                }
                reply.error
            }
        };
        self.judge(who, error);
    }

    /// What an error means to a client; a polite one is never told that it is unknown.
    fn judge(&mut self, who: usize, error: ErrorCode) {
        let actor = &mut self.actors[who];
        match error {
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => {
                assert!(!actor.polite, "a live member was lost: {actor:?}");
                actor.member_id.clear();
                actor.generation = -1;
                actor.doing = Doing::Nothing;
            }
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {
                actor.doing = Doing::Nothing;
            }
            _ => {}
        }
    }

    fn token(&mut self, who: usize) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.open.insert(token, who);
        token
    }

    fn reference(&self, who: usize) -> MemberRef {
        let actor = &self.actors[who];
        MemberRef {
            member_id: actor.member_id.clone(),
            instance_id: actor.instance.clone(),
            generation: actor.generation,
        }
    }

    fn join(&mut self, who: usize) {
        let token = self.token(who);
        let topic = [b'a', b'b'][usize::from(self.random.one_in(10))];
        let metadata = [0, 0, 0, 0, 0, 1, 0, 1, topic];
        self.actors[who].doing = Doing::Join(token);
        let actor = &self.actors[who];
        let request = JoinGroup {
            group: actor.group.to_owned(),
            member_id: actor.member_id.clone(),
            instance_id: actor.instance.clone(),
            client: Client {
                id: format!("c{who}"),
                host: "/127.0.0.1".to_owned(),
            },
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::copy_from_slice(&metadata))],
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            requires_known_member_id: who.is_multiple_of(2),
            supports_skipping_assignment: who.is_multiple_of(5),
            reason: None,
        };
        self.turn(|c, turn| c.join(turn, token, request));
    }

    fn sync(&mut self, who: usize) {
        let token = self.token(who);
        let assigned = |id: &String| (id.clone(), Bytes::from(id.clone().into_bytes()));
        let request = SyncGroup {
            group: self.actors[who].group.to_owned(),
            member: self.reference(who),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: self.actors[who].joined.iter().map(assigned).collect(),
        };
        self.actors[who].doing = Doing::Sync(token);
        self.turn(|c, turn| c.sync(turn, token, request));
    }

    fn beat(&mut self, who: usize) {
        self.actors[who].heard_ms = self.now_ms;
        let (group, member) = (self.actors[who].group.to_owned(), self.reference(who));
        let error = self.turn(|c, turn| c.heartbeat(turn, Heartbeat { group, member }));
        self.judge(who, error);
    }

    fn commit(&mut self, who: usize) {
        let key = TopicPartitionId {
            topic: ["a", "b"][self.random.below(2) as usize].to_owned(),
            topic_id: TopicId(Uuid::from_u128(7)),
            partition: self.random.below(3) as i32,
        };
        let offset = CommittedOffset {
            offset: Offset(self.now_ms),
            leader_epoch: LeaderEpoch(1),
            metadata: String::new(),
        };
        let request = CommitOffsets {
            group: self.actors[who].group.to_owned(),
            member: self.reference(who),
            knows_member_epochs: true,
            retention_ms: self.random.one_in(3).then_some(1_000),
            offsets: vec![(key, offset)],
        };
        if let Err(error) = self.turn(|c, turn| c.commit(turn, request)) {
            self.judge(who, error);
        }
    }

    fn leave(&mut self, who: usize) {
        let actor = &mut self.actors[who];
        let request = LeaveGroup {
            group: actor.group.to_owned(),
            members: vec![LeavingMember {
                member_id: std::mem::take(&mut actor.member_id),
                instance_id: actor.instance.clone(),
                reason: None,
            }],
        };
        actor.generation = -1;
        actor.doing = Doing::Nothing;
        let _ = self.turn(|c, turn| c.leave(turn, request));
    }

    /// Another coordinator reads the log. What waited is asked again.
    fn fail_over(&mut self) {
        let mut next = GroupCoordinator::new();
        let mut replica = GroupCoordinator::new();
        for record in self.log.replica.snapshot() {
            next.replay(&record);
            replica.replay(&record);
        }
        next.finish_loading(self.now_ms);
        self.coordinator = next;
        self.log.replica = replica;
        self.open.clear();
        for actor in &mut self.actors {
            // Who only joined the generation that was lost begins anew.
            actor.member_id.clear();
            actor.generation = -1;
            actor.doing = Doing::Nothing;
        }
    }

    fn pass(&mut self, by_ms: i64) {
        let to_ms = self.now_ms + by_ms;
        loop {
            let polite = self.actors.iter().filter(|actor| actor.polite);
            let beat_ms = polite
                .map(|actor| actor.heard_ms + 3_000)
                .min()
                .unwrap_or(to_ms);
            let next_ms = self
                .coordinator
                .next_deadline_ms()
                .unwrap_or(to_ms)
                .min(beat_ms);
            if next_ms >= to_ms {
                break;
            }
            self.now_ms = self.now_ms.max(next_ms);
            self.polite_ones_act();
            self.turn(|c, turn| c.tick(turn));
        }
        self.now_ms = to_ms;
        self.polite_ones_act();
        self.turn(|c, turn| c.tick(turn));
    }

    fn polite_ones_act(&mut self) {
        for who in 0..self.actors.len() {
            if self.actors[who].polite && self.actors[who].heard_ms + 3_000 <= self.now_ms {
                self.actors[who].heard_ms = self.now_ms;
                self.act(who);
            }
        }
    }

    /// What the protocol of clients wants next.
    fn act(&mut self, who: usize) {
        let actor = &self.actors[who];
        match actor.doing {
            Doing::Join(_) => {}
            Doing::Sync(_) | Doing::Member => self.beat(who),
            Doing::Joined => self.sync(who),
            Doing::Nothing => self.join(who),
        }
    }

    fn step(&mut self) {
        let who = self.random.below(self.actors.len() as u64) as usize;
        let polite = self.actors[who].polite;
        self.log.fails = self.random.one_in(20);
        match self.random.below(20) {
            0..=8 => self.act(who),
            9 | 10 if !polite => self.leave(who),
            11 if !polite => self.join(who),
            12 if !polite => self.sync(who),
            13 if self.random.one_in(8) => self.fail_over(),
            14 if !polite => {
                // It restarts without a word.
                self.actors[who].member_id.clear();
                self.actors[who].generation = -1;
                self.actors[who].doing = Doing::Nothing;
            }
            15 if !polite => {
                self.beat(who);
                self.commit(who);
            }
            16 if self.actors[who].doing == Doing::Member => self.commit(who),
            17 => {
                let group = GROUPS[self.random.below(2) as usize];
                if self.turn(|c, turn| c.delete_group(turn, group)) == ErrorCode::NONE {
                    let waiting = self.actors.iter_mut().filter(|actor| actor.group == group);
                    // Ids that were given out are gone with it.
                    waiting.for_each(|actor| {
                        actor.member_id.clear();
                        actor.generation = -1;
                    });
                }
                let _ = self.turn(|c, turn| c.delete_offsets(turn, group, &[("a".to_owned(), 0)]));
                self.turn(|c, turn| c.topics_deleted(turn, &["b".to_owned()]));
            }
            18 | 19 => {
                let by_ms = [1, 100, 2_000, 9_000, 30_000][self.random.below(5) as usize];
                self.pass(by_ms);
            }
            _ => {}
        }
    }

    /// The others go; all that is open is answered, and the polite ones become Stable.
    fn settle(&mut self) {
        self.log.fails = false;
        for who in 0..self.actors.len() {
            if !self.actors[who].polite && !self.actors[who].member_id.is_empty() {
                self.leave(who);
            }
        }
        for _ in 0..40 {
            self.pass(10_000);
        }
        assert!(self.open.is_empty(), "never answered: {:?}", self.open);
        for actor in self.actors.iter().filter(|actor| actor.polite) {
            assert_eq!(actor.doing, Doing::Member, "{actor:?}");
            assert_eq!(
                self.coordinator.describe(actor.group).unwrap().state,
                "Stable"
            );
        }
        let members: usize = GROUPS
            .iter()
            .filter_map(|group| self.coordinator.describe(group).ok())
            .map(|group| group.members.len())
            .sum();
        assert_eq!(
            members,
            self.actors.iter().filter(|actor| actor.polite).count()
        );
    }
}

#[test]
fn live_members_are_never_lost_and_the_log_says_it_all() {
    let seeds = std::env::var("SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(150);
    let (mut answered, mut stable) = (0, 0);
    for seed in 1..=seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.settle();
            (world.answered, world.stable)
        });
        let (of_answers, of_stable) = result.unwrap_or_else(|_| panic!("seed {seed}"));
        answered += of_answers;
        stable += of_stable;
    }
    assert!(
        answered > 100 * seeds as usize,
        "only {answered} requests were answered"
    );
    assert!(
        stable > 20 * seeds as usize,
        "only {stable} members became stable"
    );
}
