//! The rules of groups as scripts: `tests/data/*.txt` hold commands and, below `----`, what
//! came of them: appended records, answers, events, and when the coordinator wants to be woken.
//! `UPDATE=1` rewrites the files; then every changed line is to be read as a claim.
//!
//! Each line is `at MILLIS COMMAND ...`; time passes up to there first. After every line the
//! invariants are checked, and that a coordinator loaded from the bytes of the log is equal.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod consumer;
mod show;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use ottla_coordinator::command::{
    CommitOffsets, CommittedOffset, FetchOffsets, Heartbeat, TopicPartitionId,
};
use ottla_coordinator::records::{Decoded, GroupRecord};
use ottla_coordinator::{
    GroupConfig, GroupCoordinator, GroupLimits, Journal, JournalError, MigrationPolicy, Token,
    Topics, Turn,
};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use uuid::Uuid;
use words::Words;

/// The partition of the log, as bytes.
#[derive(Default)]
struct Log {
    records: Vec<(Bytes, Option<Bytes>)>,
    fails: Option<ErrorCode>,
    out: String,
}

impl Journal for Log {
    fn append(&mut self, records: &[GroupRecord]) -> Result<(), JournalError> {
        assert!(!records.is_empty(), "nothing is not appended");
        if let Some(error) = self.fails {
            writeln!(self.out, "append fails").unwrap();
            return Err(JournalError(error));
        }
        for record in records {
            writeln!(self.out, "append {}", show::record(record)).unwrap();
            self.records.push(record.encode());
        }
        Ok(())
    }
}

impl Log {
    fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new();
        for (key, value) in &self.records {
            let Ok(Decoded::Record(record)) = GroupRecord::decode(key, value.as_deref()) else {
                panic!("a record of ours is not read");
            };
            coordinator.replay(&record);
        }
        coordinator
    }
}

struct Story {
    coordinator: GroupCoordinator,
    log: Log,
    limits: GroupLimits,
    now_ms: i64,
    ids: u128,
    tokens: u64,
    waiting: Vec<u64>,
    cluster: consumer::Cluster,
    configs: BTreeMap<String, GroupConfig>,
}

impl Story {
    fn new() -> Story {
        let mut coordinator = GroupCoordinator::new();
        coordinator.finish_loading(0);
        Story {
            coordinator,
            log: Log::default(),
            limits: GroupLimits::default(),
            now_ms: 0,
            ids: 0,
            tokens: 0,
            waiting: Vec::new(),
            cluster: consumer::Cluster::default(),
            configs: BTreeMap::new(),
        }
    }

    /// One turn; answers and events are printed after what it appended.
    fn turn<R>(&mut self, body: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> R) -> R {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            Uuid::from_u128(*ids)
        };
        let configs = |group: &str| self.configs.get(group).copied().unwrap_or_default();
        let turn = Turn::new(self.now_ms, &self.limits, &mut self.log, &mut new_id);
        let mut turn = turn.with_topics(&self.cluster).with_configs(&configs);
        let result = body(&mut self.coordinator, &mut turn);
        let (answers, events) = (turn.answers, turn.events);
        for event in events {
            writeln!(self.log.out, "{}", show::event(&event)).unwrap();
        }
        for (token, answer) in answers {
            let waited = self.waiting.iter().position(|waiting| *waiting == token.0);
            let waited = waited.expect("a request is answered once");
            self.waiting.remove(waited);
            writeln!(self.log.out, "#{} {}", token.0, show::answer(&answer)).unwrap();
        }
        result
    }

    fn advance(&mut self, to_ms: i64) {
        assert!(to_ms >= self.now_ms, "time does not go back");
        while let Some(at_ms) = self
            .coordinator
            .next_deadline_ms()
            .filter(|at| *at <= to_ms)
        {
            self.now_ms = self.now_ms.max(at_ms);
            let before = self.log.out.len();
            self.turn(|coordinator, turn| coordinator.tick(turn));
            if self.log.out.len() > before {
                self.log
                    .out
                    .insert_str(before, &format!("-- at {} --\n", self.now_ms));
            }
            self.check();
        }
        self.now_ms = to_ms;
    }

    fn check(&mut self) {
        self.coordinator.check_invariants();
        assert_eq!(self.log.replayed().snapshot(), self.coordinator.snapshot());
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.waiting.push(self.tokens);
        Token(self.tokens)
    }

    fn run(&mut self, line: &str) {
        let mut words = Words::of(line);
        assert_eq!(words.next(), "at", "{line}");
        let at_ms = words.next().parse().unwrap();
        self.advance(at_ms);
        let command = words.next();
        let out = self.command(&command, &mut words);
        if !out.is_empty() {
            writeln!(self.log.out, "{out}").unwrap();
        }
        self.check();
    }

    fn command(&mut self, command: &str, words: &mut Words) -> String {
        match command {
            "pass" => String::new(),
            "live" => {
                let request = consumer::heartbeat(words, &self.cluster);
                let reply = self.turn(|c, turn| c.consumer_heartbeat(turn, request));
                consumer::reply(&reply)
            }
            "topic" => {
                let name = words.next();
                self.cluster.set(&name, words.next().parse().ok());
                String::new()
            }
            "config" => {
                let config = GroupConfig {
                    session_timeout_ms: words.get("session").map(|ms| ms.parse().unwrap()),
                    heartbeat_interval_ms: words.get("heartbeat").map(|ms| ms.parse().unwrap()),
                    assignment_interval_ms: words.get("interval").map(|ms| ms.parse().unwrap()),
                };
                self.configs.insert(words.next(), config);
                String::new()
            }
            "describe-consumer" => {
                let group = words.next();
                let limits = &self.limits;
                let described = self
                    .coordinator
                    .describe_consumer(&self.cluster, limits, &group);
                consumer::described(described)
            }
            "limits" => {
                let consumer = &mut self.limits.consumer;
                consumer.max_size = words.number("consumers", usize::MAX);
                consumer.assignment_interval_ms = words.number("interval", 1_000);
                if let Some(policy) = words.get("policy") {
                    consumer.migration_policy = MigrationPolicy::parse(&policy).unwrap();
                }
                if let Some(assignors) = words.get("assignors") {
                    consumer.assignors = assignors.split(',').map(str::to_owned).collect();
                }
                self.limits.initial_rebalance_delay_ms = words.number("delay", 3_000);
                self.limits.max_size = words.number("max_size", usize::MAX);
                self.limits.offset_metadata_max_bytes = words.number("metadata", 4_096);
                String::new()
            }
            "fail" => {
                self.log.fails = Some(ErrorCode(words.next().parse().unwrap()));
                String::new()
            }
            "heal" => {
                self.log.fails = None;
                String::new()
            }
            "clock" => {
                // Another broker takes over, with another time.
                self.now_ms = words.next().parse().unwrap();
                self.coordinator = self.log.replayed();
                self.coordinator.finish_loading(self.now_ms);
                String::new()
            }
            "crash" => {
                self.coordinator = self.log.replayed();
                self.coordinator.finish_loading(self.now_ms);
                format!("lost: {:?}", std::mem::take(&mut self.waiting))
            }
            "join" | "sync" => self.ask(command, words),
            "heartbeat" => {
                let group = words.next();
                let request = Heartbeat {
                    group,
                    member: words.member(),
                };
                show::code(self.turn(|c, turn| c.heartbeat(turn, request)))
            }
            "leave" => {
                let request = words.leave();
                match self.turn(|c, turn| c.leave(turn, request)) {
                    Ok(left) => show::left(&left),
                    Err(error) => show::code(error),
                }
            }
            _ => self.offsets_command(command, words),
        }
    }

    fn ask(&mut self, command: &str, words: &mut Words) -> String {
        let token = self.token();
        if command == "join" {
            let request = words.join();
            self.turn(|c, turn| c.join(turn, token, request));
        } else {
            let request = words.sync();
            self.turn(|c, turn| c.sync(turn, token, request));
        }
        if self.waiting.contains(&token.0) {
            format!("#{} waits", token.0)
        } else {
            String::new()
        }
    }

    fn offsets_command(&mut self, command: &str, words: &mut Words) -> String {
        match command {
            "commit" => {
                let request = commit(words, &self.cluster);
                show::results(&self.turn(|c, turn| c.commit(turn, request)))
            }
            "fetch" => {
                let group = words.next();
                let member_id = words.get("member");
                let member_epoch = words.number("epoch", -1);
                let asked = words.partitions();
                let request = FetchOffsets {
                    group,
                    member_id,
                    member_epoch,
                    partitions: (!asked.is_empty()).then_some(asked),
                };
                match self.coordinator.fetch_offsets(&request) {
                    Ok(fetched) => show::fetched(&fetched),
                    Err(error) => format!("all {}", show::code(error)),
                }
            }
            "delete-offsets" => {
                let (group, asked) = (words.next(), words.partitions());
                show::results(&self.turn(|c, turn| c.delete_offsets(turn, &group, &asked)))
            }
            "delete-group" => {
                let group = words.next();
                show::code(self.turn(|c, turn| c.delete_group(turn, &group)))
            }
            "delete-topic" => {
                let topics = [words.next()];
                self.turn(|c, turn| c.topics_deleted(turn, &topics));
                String::new()
            }
            "list" => show::listed(&self.coordinator.list(&words.filter())),
            "describe" => match self.coordinator.describe(&words.next()) {
                Ok(group) => show::described(Some(&group)),
                Err(refusal) if refusal.message.ends_with("not found.") => show::described(None),
                Err(refusal) => refusal.message,
            },
            _ => panic!("no such command: {command}"),
        }
    }

    fn block(&mut self, commands: &str) -> String {
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            if commands
                .lines()
                .filter(|line| !line.starts_with('#'))
                .count()
                > 1
            {
                writeln!(self.log.out, "> {line}").unwrap();
            }
            self.run(line);
        }
        let deadline = self.coordinator.next_deadline_ms();
        let deadline = deadline.map_or_else(|| "never".to_owned(), |at_ms| at_ms.to_string());
        writeln!(self.log.out, "wakes: {deadline}").unwrap();
        show::short(&std::mem::take(&mut self.log.out))
    }
}

fn commit(words: &mut Words, cluster: &consumer::Cluster) -> CommitOffsets {
    let group = words.next();
    let member = words.member();
    let knows_member_epochs = !words.flag("v8");
    let retention_ms = words.get("retention").map(|text| text.parse().unwrap());
    let metadata = match words.get("metadata_len") {
        Some(len) => words
            .get("fill")
            .unwrap_or_else(|| "x".to_owned())
            .repeat(len.parse().unwrap()),
        None => words.get("metadata").unwrap_or_default(),
    };
    let leader_epoch = LeaderEpoch(words.number("epoch", -1));
    let offsets = words.assignments().into_iter().map(|(partition, offset)| {
        let (topic, partition) = words::partition(&partition);
        let known = cluster.by_name(&topic);
        let key = TopicPartitionId {
            topic_id: known.map_or(TopicId::ZERO, |topic| topic.id),
            topic,
            partition,
        };
        let offset = Offset(offset.parse().unwrap());
        (
            key,
            CommittedOffset {
                offset,
                leader_epoch,
                metadata: metadata.clone(),
            },
        )
    });
    let offsets = offsets.collect();
    CommitOffsets {
        group,
        member,
        knows_member_epochs,
        retention_ms,
        offsets,
    }
}

#[test]
fn the_scripts_tell_what_happens() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut story = Story::new();
        let mut is = String::new();
        for block in text.trim_end().split("\n\n") {
            let commands = block.split("\n----").next().unwrap();
            if commands.starts_with("== ") {
                story = Story::new();
                writeln!(is, "{commands}\n").unwrap();
                continue;
            }
            if !block.lines().any(|line| line.starts_with("at ")) {
                writeln!(is, "{block}\n").unwrap();
                continue;
            }
            writeln!(is, "{commands}\n----\n{}", story.block(commands)).unwrap();
        }
        let is = format!("{}\n", is.trim_end());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, is).unwrap();
        } else {
            for (number, (told, is)) in text.lines().zip(is.lines()).enumerate() {
                assert_eq!(told, is, "{}:{}", path.display(), number + 1);
            }
            assert_eq!(text, is, "{}", path.display());
        }
    }
}
