//! A group member with the Rust client (librdkafka), the classic protocol; see
//! `compat-tests/clients/agent.py` for its arguments, commands and events.
//!
//! A process of its own, so that it can be killed. The scenarios that drive it are in
//! `compat-tests/src/groups/scenarios.rs`.

use anyhow::{Context as _, Result};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

fn say(event: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody to tell that nobody listens.
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    let elements = partitions.elements();
    elements.iter().map(|element| element.partition()).collect()
}

struct Member {
    options: HashMap<String, String>,
    /// The offset after the last record that was delivered, by partition.
    position: Mutex<BTreeMap<i32, i64>>,
}

impl Member {
    fn option(&self, key: &str) -> &str {
        self.options.get(key).map_or("", String::as_str)
    }

    fn positions(&self) -> BTreeMap<i32, i64> {
        self.position.lock().expect("never poisoned").clone()
    }

    fn commit(&self, consumer: &BaseConsumer<Member>, note: &str) -> Result<()> {
        let positions = self.positions();
        if positions.is_empty() {
            return Ok(());
        }
        let mut wanted = TopicPartitionList::new();
        for (partition, offset) in &positions {
            let topic = self.option("topic");
            wanted.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
            let mut element = wanted.find_partition(topic, *partition);
            element.as_mut().context("added above")?.set_metadata(note);
        }
        consumer.commit(&wanted, CommitMode::Sync)?;
        say(&json!({"event": "commit", "offsets": positions}));
        Ok(())
    }

    fn seek(&self, consumer: &BaseConsumer<Member>, partitions: &TopicPartitionList) -> Result<()> {
        let mut times = TopicPartitionList::new();
        let time = self.option("seek_ms").parse()?;
        for partition in numbers(partitions) {
            times.add_partition_offset(self.option("topic"), partition, Offset::Offset(time))?;
        }
        consumer.assign(&consumer.offsets_for_times(times, TIMEOUT)?)?;
        Ok(())
    }
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Member>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(revoked) = rebalance else {
            return;
        };
        let failed = match self.option("commit") {
            "batch" => self.commit(consumer, "").err(),
            _ => None,
        };
        if let Some(error) = failed {
            say(&json!({"event": "error", "message": format!("{error:#}")}));
        }
        let partitions = numbers(revoked);
        let mut position = self.position.lock().expect("never poisoned");
        position.retain(|partition, _| !partitions.contains(partition));
        say(&json!({"event": "revoked", "partitions": partitions}));
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Member>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(assigned) = rebalance {
            if self.options.contains_key("seek_ms") {
                self.seek(consumer, assigned).expect("offsets by time");
            }
            say(&json!({"event": "assigned", "partitions": numbers(assigned)}));
        }
    }
}

fn consumer(options: HashMap<String, String>) -> Result<BaseConsumer<Member>> {
    let option = |key: &str| options.get(key).map_or("", String::as_str);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", option("bootstrap"))
        .set("group.id", option("group"))
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("session.timeout.ms", option("session_ms"))
        .set("heartbeat.interval.ms", option("heartbeat_ms"));
    config.set(
        "auto.offset.reset",
        match option("reset") {
            "none" => "error",
            reset => reset,
        },
    );
    config.set(
        "partition.assignment.strategy",
        match option("assignor") {
            "cooperative" => "cooperative-sticky",
            _ => "range",
        },
    );
    if let Some(instance) = options.get("instance") {
        config.set("group.instance.id", instance);
    }
    let topic = option("topic").to_owned();
    let consumer: BaseConsumer<Member> = config.create_with_context(Member {
        options,
        position: Mutex::default(),
    })?;
    consumer.subscribe(&[&topic])?;
    Ok(consumer)
}

fn committed(consumer: &BaseConsumer<Member>) -> Result<Value> {
    let topic = consumer.context().option("topic");
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        asked.add_partition(topic, partition.id());
    }
    let found = consumer.committed_offsets(asked, TIMEOUT)?;
    let (mut offsets, mut notes) = (BTreeMap::new(), BTreeMap::new());
    for element in found.elements() {
        if let Some(offset) = element.offset().to_raw().filter(|offset| *offset >= 0) {
            offsets.insert(element.partition(), offset);
            notes.insert(element.partition(), element.metadata().to_owned());
        }
    }
    Ok(json!({"event": "committed", "offsets": offsets, "metadata": notes}))
}

fn delete(bootstrap: &str, group: &str) -> Result<Value> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let mut results = runtime.block_on(admin.delete_groups(&[group], &options))?;
    let code = match results.pop().context("an answer per group")? {
        Ok(_) => 0,
        Err((_, code)) => code as i32,
    };
    Ok(json!({"event": "deleted", "code": code}))
}

/// Does what a line says; false at the end.
fn obey(consumer: &BaseConsumer<Member>, line: &str) -> Result<bool> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb {
        "commit" => consumer.context().commit(consumer, rest)?,
        "committed" => say(&committed(consumer)?),
        "delete" => say(&delete(consumer.context().option("bootstrap"), rest)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn read_commands() -> mpsc::Receiver<String> {
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        std::process::exit(3); // the test has gone
    });
    commands
}

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1);
    let options = arguments.filter_map(|argument| {
        let (key, value) = argument.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    let consumer = consumer(options.collect())?;
    let member = consumer.context();
    let commands = read_commands();
    loop {
        match commands.try_recv().map(|line| obey(&consumer, &line)) {
            Ok(Ok(false)) => break,
            Ok(Err(error)) => say(&json!({"event": "error", "message": format!("{error:#}")})),
            Ok(Ok(true)) | Err(_) => {}
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                say(&json!({
                    "event": "record", "partition": partition, "offset": offset, "value": value,
                }));
                let mut position = member.position.lock().expect("never poisoned");
                position.insert(partition, offset + 1);
            }
            Some(Err(error)) => say(&json!({"event": "error", "message": error.to_string()})),
            None => continue,
        }
        let committed = match member.option("commit") {
            "batch" => member.commit(&consumer, ""),
            _ => Ok(()),
        };
        if let Err(error) = committed {
            say(&json!({"event": "error", "message": format!("{error:#}")}));
        }
    }
    // Leaves the group when it is dropped.
    drop(consumer);
    say(&json!({"event": "closed"}));
    Ok(())
}
