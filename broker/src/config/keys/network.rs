//! Keys of listeners, sockets, connections and requests.

use super::why;
use crate::config::key::{Key, KeyType, int, list, long, text, unset};

/// -1 leaves a socket buffer to the system.
fn buffer_size(bytes: i64) -> Option<u32> {
    u32::try_from(bytes).ok()
}

pub(super) const KEYS: &[Key] = &[
    unset(
        "advertised.listeners",
        KeyType::List,
        "Addresses that clients are told to connect to, one per listener; default: the listeners.",
    )
    .combined(),
    int(
        "connection.failed.authentication.delay.ms",
        "100",
        "Pause before a connection is closed whose authentication failed.",
    )
    .at_least(0)
    .without_effect(why::SASL),
    long(
        "connections.max.idle.ms",
        "600000",
        "A connection without requests for this long is closed; negative: never.",
    )
    .sets(|c, v| c.connections_max_idle_ms = u64::try_from(v.integer()).ok()),
    long(
        "connections.max.reauth.ms",
        "0",
        "Longest time until a SASL connection must authenticate again; 0 for never.",
    )
    .without_effect(why::SASL),
    unset(
        "early.start.listeners",
        KeyType::List,
        "Listeners that open before the broker has finished starting.",
    )
    .without_effect("listeners open when the broker is ready"),
    int(
        "fetch.max.bytes",
        "57671680",
        "Most bytes of records in the answer to one Fetch request.",
    )
    .at_least(1024)
    .sets(|c, v| c.fetch_max_bytes = v.u32()),
    unset(
        "inter.broker.listener.name",
        KeyType::String,
        "Name of the listener that brokers use among themselves.",
    )
    .without_effect(why::ONE_NODE),
    text(
        "listener.security.protocol.map",
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "Security protocol of each listener name, as NAME:PROTOCOL pairs.",
    )
    .per_broker()
    .combined(),
    list(
        "listeners",
        "PLAINTEXT://127.0.0.1:9092",
        "Addresses to serve Kafka clients on, as NAME://host:port; an empty host is all \
        interfaces.",
    )
    .per_broker()
    .combined(),
    int(
        "max.connection.creation.rate",
        "2147483647",
        "Most new connections per second.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.max_connection_creation_rate = v.u32()),
    int(
        "max.connections",
        "2147483647",
        "Most connections at a time.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.max_connections = v.u32()),
    int(
        "max.connections.per.ip",
        "2147483647",
        "Most connections at a time from one address.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.max_connections_per_ip = v.u32()),
    text(
        "max.connections.per.ip.overrides",
        "",
        "Limits of single addresses in place of max.connections.per.ip, as address:number pairs.",
    )
    .cluster_wide()
    .combined(),
    int(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        "Most fetch sessions remembered at a time.",
    )
    .at_least(0)
    .sets(|c, v| c.fetch_session_cache_slots = v.usize()),
    int(
        "max.request.partition.size.limit",
        "2000",
        "Most partitions in one page of a DescribeTopicPartitions answer.",
    )
    .at_least(1)
    .sets(|c, v| c.max_request_partition_size_limit = v.u32()),
    int("num.io.threads", "8", "Threads that handle requests.")
        .at_least(1)
        .cluster_wide()
        .without_effect(why::THREADS),
    int(
        "num.network.threads",
        "3",
        "Threads that read and write sockets, per listener.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::THREADS),
    long(
        "queued.max.request.bytes",
        "-1",
        "Most bytes of requests read but not answered yet, over all connections; -1 for no limit.",
    )
    .sets(|c, v| c.queued_max_request_bytes = u64::try_from(v.integer()).ok().filter(|n| *n > 0))
    .idle(why::IN_FLIGHT),
    int(
        "queued.max.requests",
        "500",
        "Most requests that wait for a request thread.",
    )
    .at_least(1)
    .without_effect("requests are handled where they are read and do not queue"),
    int(
        "request.timeout.ms",
        "30000",
        "Longest wait for the answer to a request between brokers.",
    )
    .without_effect(why::ONE_NODE),
    long(
        "socket.connection.setup.timeout.max.ms",
        "30000",
        "Longest wait for a connection to another broker after repeated failures.",
    )
    .without_effect(why::ONE_NODE),
    long(
        "socket.connection.setup.timeout.ms",
        "10000",
        "Longest wait for a connection to another broker.",
    )
    .without_effect(why::ONE_NODE),
    int(
        "socket.listen.backlog.size",
        "50",
        "Connections that may wait to be accepted; the system may lower it.",
    )
    .at_least(1)
    .sets(|c, v| c.socket_listen_backlog_size = v.u32()),
    int(
        "socket.receive.buffer.bytes",
        "102400",
        "Receive buffer of a client's socket; -1 for the system's default.",
    )
    .at_least(-1)
    .sets(|c, v| c.socket_receive_buffer_bytes = buffer_size(v.integer())),
    int(
        "socket.request.max.bytes",
        "104857600",
        "Largest request; a connection that announces a larger one is closed.",
    )
    .at_least(1)
    .sets(|c, v| c.socket_request_max_bytes = v.u32()),
    int(
        "socket.send.buffer.bytes",
        "102400",
        "Send buffer of a client's socket; -1 for the system's default.",
    )
    .at_least(-1)
    .sets(|c, v| c.socket_send_buffer_bytes = buffer_size(v.integer())),
];
