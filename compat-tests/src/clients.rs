//! The clients: the rows of the matrix, how to tell whether one is installed, and how it is run.

mod java;
mod kcat;
mod rust;
mod scripts;

pub(crate) use scripts::{node_missing, python_missing};

use crate::scenario::Scenario::{self, *};
use anyhow::Result;

/// What a scenario is run against.
pub struct Target<'a> {
    pub bootstrap: &'a str,
    /// Starts the names of topics, so that runs and clients do not meet.
    pub prefix: &'a str,
}

impl Target<'_> {
    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

/// One client family.
pub struct Client {
    pub name: &'static str,
    /// Name and version, as on the page.
    pub title: &'static str,
    /// How it is run, for the page.
    pub how: &'static str,
    pub scenarios: &'static [Scenario],
    /// Why it cannot be run here, if it cannot.
    pub missing: fn() -> Option<String>,
    pub run: fn(Scenario, &Target<'_>) -> Result<()>,
}

/// Everything except what needs an admin client.
const WITHOUT_ADMIN: &[Scenario] = &[
    Metadata,
    ProduceConsume,
    Codecs,
    Offsets,
    Idempotent,
    Large,
    Acks,
    Errors,
];

pub const CLIENTS: &[Client] = &[
    Client {
        name: "kcat",
        title: "kcat 1.7.1 (librdkafka 2.0.2)",
        how: "Debian's package, the oldest librdkafka that is still common",
        scenarios: WITHOUT_ADMIN,
        missing: kcat::missing,
        run: kcat::run_scenario,
    },
    Client {
        name: "rdkafka",
        title: "rdkafka for Rust 0.39 (librdkafka 2.12)",
        how: "the crate, inside the test process",
        scenarios: &Scenario::ALL,
        missing: || None,
        run: rust::run,
    },
    Client {
        name: "confluent-kafka",
        title: "confluent-kafka for Python 2.16.1 (librdkafka 2.16)",
        how: "from PyPI; `compat-tests/clients/confluent.py`",
        scenarios: &Scenario::ALL,
        missing: || python_missing("confluent_kafka"),
        run: |scenario, target| scripts::run_python("confluent.py", scenario, target),
    },
    Client {
        name: "kafka-python",
        title: "kafka-python 3.0.12",
        how: "from PyPI; `compat-tests/clients/kafka_python.py`",
        scenarios: &Scenario::ALL,
        missing: || python_missing("kafka"),
        run: |scenario, target| scripts::run_python("kafka_python.py", scenario, target),
    },
    Client {
        name: "java",
        title: "Apache Kafka's Java tools 4.3.0",
        how: "`kafka-topics`, `kafka-configs`, `kafka-get-offsets`, console producer and consumer \
              from Kafka's own jars",
        scenarios: &Scenario::ALL,
        missing: java::missing,
        run: java::run_scenario,
    },
    Client {
        name: "kafkajs",
        title: "kafkajs 2.2.4",
        how: "from npm; `compat-tests/clients/kafkajs.mjs`. It consumes in groups only, so what it \
              produced is read back by the Rust client",
        scenarios: &Scenario::ALL,
        missing: || node_missing("kafkajs"),
        run: scripts::run_node,
    },
];
