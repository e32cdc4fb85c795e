//! The small real things that every client is asked to do; the columns of the matrix.

/// One scenario. Each client does it in its own way and checks what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    Metadata,
    TopicAdmin,
    ProduceConsume,
    Codecs,
    Offsets,
    Idempotent,
    Configs,
    Large,
    Acks,
    Errors,
}

impl Scenario {
    pub const ALL: [Scenario; 10] = [
        Scenario::Metadata,
        Scenario::TopicAdmin,
        Scenario::ProduceConsume,
        Scenario::Codecs,
        Scenario::Offsets,
        Scenario::Idempotent,
        Scenario::Configs,
        Scenario::Large,
        Scenario::Acks,
        Scenario::Errors,
    ];

    /// The name in test names and in the scripts of the clients.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Metadata => "metadata",
            Scenario::TopicAdmin => "topic_admin",
            Scenario::ProduceConsume => "produce_consume",
            Scenario::Codecs => "codecs",
            Scenario::Offsets => "offsets",
            Scenario::Idempotent => "idempotent",
            Scenario::Configs => "configs",
            Scenario::Large => "large",
            Scenario::Acks => "acks",
            Scenario::Errors => "errors",
        }
    }

    /// What is done and checked, for the page.
    pub fn description(self) -> &'static str {
        match self {
            Scenario::Metadata => "cluster, brokers, controller, topics and their partitions",
            Scenario::TopicAdmin => "create, list, add partitions, delete; refusals by their codes",
            Scenario::ProduceConsume => {
                "keys, values, nulls, headers, timestamps, offsets and order, read from the start \
                 and from the middle"
            }
            Scenario::Codecs => "none, gzip, snappy, lz4 and zstd, as far as the client has them",
            Scenario::Offsets => "earliest, latest, by timestamp, newest timestamp",
            Scenario::Idempotent => "idempotent producer: everything once and in order",
            Scenario::Configs => "describe, alter, reset; a bad value is refused",
            Scenario::Large => {
                "900 KB messages, fetched also with a limit below one; one over the topic's limit \
                 is refused"
            }
            Scenario::Acks => "acks 0, 1 and all",
            Scenario::Errors => "an unknown topic, an offset out of range: the client's own errors",
        }
    }
}
