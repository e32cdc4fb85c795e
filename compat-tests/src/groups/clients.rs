//! The clients as group members: the rows of the second matrix, and how each is started.

use super::scenarios::GroupScenario::{self, *};
use crate::clients::{node_missing, python_missing};
use crate::process::{cache, is_installed, root};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The arguments of a member.
pub type Options<'a> = BTreeMap<&'a str, &'a str>;

/// One client as a member of groups.
pub struct GroupClient {
    pub name: &'static str,
    /// Name and version, as on the page.
    pub title: &'static str,
    /// How it is run, for the page.
    pub how: &'static str,
    pub scenarios: &'static [GroupScenario],
    /// Why it cannot be run here, if it cannot.
    pub missing: fn() -> Option<String>,
    pub command: fn(&Options<'_>) -> Command,
    /// Options that every member of this row has.
    pub options: &'static [(&'static str, &'static str)],
    /// It leaves on SIGTERM, and commits by itself: it takes no commands. What it has in hand at
    /// that moment it drops, although it commits it.
    pub closes_by_signal: bool,
    pub commits_when_told: bool,
    /// It can be told that there must be a committed offset.
    pub has_none: bool,
    /// It shows what was committed with an offset.
    pub reads_notes: bool,
    /// Its commits name only partitions that it has, and what it is given begins at what is
    /// committed. Without, records may come again after their commit, and stale ones from a
    /// partition that has moved; it is so with Apache Kafka, too.
    pub strict: bool,
    /// A leader that comes back does not join again when it has read about the topic; one that
    /// does makes a rebalance, as with Apache Kafka.
    pub quiet_leader: bool,
    /// It has an admin call that deletes groups; otherwise the Rust client's is used.
    pub deletes_groups: bool,
}

/// What most clients are.
const USUAL: GroupClient = GroupClient {
    name: "",
    title: "",
    how: "",
    scenarios: &GroupScenario::ALL,
    missing: || None,
    command: |_| unreachable!("each client has its own"),
    options: &[],
    closes_by_signal: false,
    commits_when_told: true,
    has_none: true,
    reads_notes: true,
    strict: true,
    quiet_leader: true,
    deletes_groups: true,
};

/// The protocol of KIP-848, where the broker assigns.
const NEW_PROTOCOL: &[(&str, &str)] = &[("protocol", "consumer")];

const EAGER: &[GroupScenario] = &[
    Start, Resume, Metadata, SeekTime, Rebalance, Static, Killed, Deleted,
];

pub const GROUP_CLIENTS: &[GroupClient] = &[
    GroupClient {
        name: "kcat",
        title: "kcat 1.7.1 (librdkafka 2.0.2)",
        how: "Debian's package, `kcat -G`, with its own automatic commits",
        scenarios: &[
            Start,
            Resume,
            Rebalance,
            Static,
            Cooperative,
            Killed,
            Deleted,
        ],
        missing: || (!is_installed("kcat")).then(|| "no kcat: scripts/setup --all".to_owned()),
        command: kcat,
        closes_by_signal: true,
        commits_when_told: false,
        deletes_groups: false,
        ..USUAL
    },
    GroupClient {
        name: "rdkafka",
        title: "rdkafka for Rust 0.39 (librdkafka 2.12)",
        how: "the crate; `compat-tests/src/bin/rdkafka_member.rs`",
        command: |options| program(&rust_program(), options),
        ..USUAL
    },
    GroupClient {
        name: "confluent-kafka",
        title: "confluent-kafka for Python 2.16.1 (librdkafka 2.16)",
        how: "from PyPI; `compat-tests/clients/confluent_group.py`",
        missing: || python_missing("confluent_kafka"),
        command: |options| python("confluent_group.py", options),
        ..USUAL
    },
    GroupClient {
        name: "confluent-consumer",
        title: "confluent-kafka for Python 2.16.1, `group.protocol=consumer`",
        how: "the same program with the new protocol",
        missing: || python_missing("confluent_kafka"),
        command: |options| python("confluent_group.py", options),
        options: NEW_PROTOCOL,
        ..USUAL
    },
    GroupClient {
        name: "java",
        title: "Apache Kafka's Java consumer 4.3.0",
        how: "from Maven Central; `compat-tests/clients/GroupMember.java`",
        missing: || java_missing("java"),
        command: |options| java("java", &cache().join("kafka/cp"), options),
        ..USUAL
    },
    GroupClient {
        name: "java-consumer",
        title: "Apache Kafka's Java consumer 4.3.0, `group.protocol=consumer`",
        how: "the same program with the new protocol (KIP-848); a static member is closed, not \
              killed, because it must leave its name free",
        missing: || java_missing("java"),
        command: |options| java("java", &cache().join("kafka/cp"), options),
        options: NEW_PROTOCOL,
        ..USUAL
    },
    GroupClient {
        name: "java-2.8",
        title: "Apache Kafka's Java consumer 2.8.2",
        how: "the same program, compiled against and run with the client of 2021",
        missing: || java_missing("java-2.8"),
        command: |options| java("java-2.8", &compiled("java-2.8"), options),
        ..USUAL
    },
    GroupClient {
        name: "kafka-python",
        title: "kafka-python 3.0.12",
        how: "from PyPI; `compat-tests/clients/kafka_python_group.py`. A static leader that \
              comes back may join twice, which is a rebalance; only its follower's return is quiet",
        missing: || python_missing("kafka"),
        command: |options| python("kafka_python_group.py", options),
        quiet_leader: false,
        ..USUAL
    },
    GroupClient {
        name: "aiokafka",
        title: "aiokafka 0.14.0",
        how: "from PyPI; `compat-tests/clients/aiokafka_group.py`",
        scenarios: EAGER,
        missing: || python_missing("aiokafka"),
        command: |options| python("aiokafka_group.py", options),
        reads_notes: false,
        deletes_groups: false,
        ..USUAL
    },
    GroupClient {
        name: "kafkajs",
        title: "kafkajs 2.2.4",
        how: "from npm; `compat-tests/clients/kafkajs_group.mjs`",
        scenarios: &[
            Start, Resume, Metadata, SeekTime, Rebalance, Killed, Deleted,
        ],
        missing: || node_missing("kafkajs"),
        command: |options| node("kafkajs_group.mjs", options),
        has_none: false,
        ..USUAL
    },
    GroupClient {
        name: "platformatic",
        title: "@platformatic/kafka 1.35.0",
        how: "from npm; `compat-tests/clients/platformatic_group.mjs`. In a \
              rebalance it may read again what was committed, with Apache Kafka, too; that nothing \
              is lost is checked",
        scenarios: &[Start, Resume, SeekTime, Rebalance, Static, Killed, Deleted],
        missing: || node_missing("@platformatic/kafka"),
        command: |options| node("platformatic_group.mjs", options),
        strict: false,
        ..USUAL
    },
    GroupClient {
        name: "platformatic-consumer",
        title: "@platformatic/kafka 1.35.0, `groupProtocol: 'consumer'`",
        how: "the same program with the new protocol",
        scenarios: &[Start, Resume, SeekTime, Rebalance, Killed, Deleted],
        missing: || node_missing("@platformatic/kafka"),
        command: |options| node("platformatic_group.mjs", options),
        options: NEW_PROTOCOL,
        strict: false,
        ..USUAL
    },
    GroupClient {
        name: "franz-go",
        title: "franz-go 1.22.3",
        how: "a Go module; `compat-tests/clients/go/franz/main.go`",
        missing: || go_missing("franz"),
        command: |options| program(&go_program("franz"), options),
        // `NoResetOffset` means an offset out of range only.
        has_none: false,
        ..USUAL
    },
    GroupClient {
        name: "franz-go-consumer",
        title: "franz-go 1.22.3, `ServerSideBalancer`",
        how: "the same program with the new protocol; as a static member it does not free its name \
              when it closes",
        scenarios: &[
            Start,
            Resume,
            Metadata,
            SeekTime,
            Rebalance,
            Cooperative,
            Killed,
            Deleted,
        ],
        missing: || go_missing("franz"),
        command: |options| program(&go_program("franz"), options),
        options: NEW_PROTOCOL,
        has_none: false,
        ..USUAL
    },
    GroupClient {
        name: "sarama",
        title: "sarama 1.61.1",
        how: "a Go module; `compat-tests/clients/go/sarama/main.go`",
        scenarios: EAGER,
        missing: || go_missing("sarama"),
        command: |options| program(&go_program("sarama"), options),
        has_none: false,
        ..USUAL
    },
    GroupClient {
        name: "kafka-go",
        title: "segmentio/kafka-go 0.4.51",
        how: "a Go module, its `Reader`; `compat-tests/clients/go/segmentio/main.go`. In a \
              rebalance it may read again what was committed, with Apache Kafka, too; that nothing \
              is lost is checked",
        scenarios: &[Start, Resume, Rebalance, Killed, Deleted],
        missing: || go_missing("segmentio"),
        command: |options| program(&go_program("segmentio"), options),
        strict: false,
        has_none: false,
        ..USUAL
    },
];

impl GroupClient {
    /// Whether the broker assigns, and sets the timeouts.
    pub fn has_new_protocol(&self) -> bool {
        self.options.contains(&NEW_PROTOCOL[0])
    }
}

fn with_options(command: &mut Command, options: &Options<'_>) {
    for (key, value) in options {
        command.arg(format!("{key}={value}"));
    }
}

fn program(path: &Path, options: &Options<'_>) -> Command {
    let mut command = Command::new(path);
    with_options(&mut command, options);
    command
}

/// The program that cargo has built beside the tests.
fn rust_program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let profile = test.parent().and_then(Path::parent);
    profile
        .unwrap_or_else(|| Path::new("."))
        .join("rdkafka_member")
}

fn script(name: &str) -> PathBuf {
    root().join("compat-tests/clients").join(name)
}

fn python(name: &str, options: &Options<'_>) -> Command {
    let mut command = Command::new(cache().join("clients/python/bin/python"));
    command.arg(script(name));
    with_options(&mut command, options);
    command
}

fn node(name: &str, options: &Options<'_>) -> Command {
    let mut command = Command::new("node");
    command.arg(script(name));
    command.env("NODE_PATH", cache().join("clients/node/node_modules"));
    with_options(&mut command, options);
    command
}

/// Where scripts/clients has put what it compiled or built.
fn compiled(name: &str) -> PathBuf {
    cache().join("clients").join(name)
}

fn java_missing(name: &str) -> Option<String> {
    let there = is_installed("java") && compiled(name).join("GroupMember.class").is_file();
    (!there).then(|| "no java, no javac or no jars: scripts/clients".to_owned())
}

fn java(name: &str, jars: &Path, options: &Options<'_>) -> Command {
    let mut command = Command::new("java");
    // Small and quick to start; a member lives for seconds.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
    command.arg("-cp");
    command.arg(format!("{}:{}/*", compiled(name).display(), jars.display()));
    command.arg("GroupMember");
    with_options(&mut command, options);
    command
}

fn go_program(name: &str) -> PathBuf {
    compiled("go").join(name)
}

fn go_missing(name: &str) -> Option<String> {
    (!go_program(name).is_file()).then(|| "no Go that is new enough: scripts/clients".to_owned())
}

/// kcat has no program around it: its own arguments, and its own words for what happens.
fn kcat(options: &Options<'_>) -> Command {
    let option = |key: &str| options.get(key).copied().unwrap_or_default();
    let mut command = Command::new("kcat");
    command.args(["-b", option("bootstrap"), "-G", option("group"), "-u"]);
    let mut set = |key: &str, value: &str| {
        command.arg("-X").arg(format!("{key}={value}"));
    };
    set("session.timeout.ms", option("session_ms"));
    set("heartbeat.interval.ms", option("heartbeat_ms"));
    set("auto.commit.interval.ms", "100");
    set("fetch.wait.max.ms", "100");
    set(
        "auto.offset.reset",
        match option("reset") {
            "none" => "error",
            reset => reset,
        },
    );
    set(
        "partition.assignment.strategy",
        match option("assignor") {
            "cooperative" => "cooperative-sticky",
            _ => "range",
        },
    );
    if let Some(instance) = options.get("instance") {
        set("group.instance.id", instance);
    }
    command.arg("-f");
    command.arg(r#"{"event":"record","partition":%p,"offset":%o,"value":"%s"}\n"#);
    command.arg(option("topic"));
    command
}
