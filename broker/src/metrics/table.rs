//! `METRICS`: one row per metric family. A row says what a family is called, counts and means, and
//! how its samples are read from what was gathered for one answer.
//!
//! Three groups: the names this product promises (`commitlog_`), those of kafka_exporter and of the
//! JMX exporter (so that existing dashboards and alerts work without a sidecar), and our own
//! (`ottla_`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_coordinator::turn::{RebalanceCause, RemovalCause};
use ottla_storage::log::Reason;

use super::exposition::{Gathered, Samples};
use super::histogram::HistogramSnapshot;
use super::{GroupSample, LogDirSample, LogSample, OffsetSample, PartitionCounts, PartitionSample};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever grows; the name ends in `_total`.
    Counter,
    Gauge,
    /// Shown as `_bucket`, `_sum` and `_count`.
    Histogram,
}

impl MetricKind {
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One row.
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub(super) read: fn(&Gathered<'_>, &mut Samples),
}

const fn row(
    kind: MetricKind,
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Gathered<'_>, &mut Samples),
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        help,
        read,
    }
}

use MetricKind::{Counter, Gauge, Histogram};

const NONE: &[&str] = &[];
const TOPIC: &[&str] = &["topic"];
const PARTITION: &[&str] = &["topic", "partition"];
const REQUEST: &[&str] = &["request"];
const LOG_DIR: &[&str] = &["log_dir"];
const GROUP_OFFSET: &[&str] = &["group", "topic", "partition"];
const EXPORTER_GROUP: &[&str] = &["consumergroup"];
const EXPORTER_GROUP_TOPIC: &[&str] = &["consumergroup", "topic"];
const EXPORTER_GROUP_OFFSET: &[&str] = &["consumergroup", "topic", "partition"];
const CAUSE: &[&str] = &["cause"];

/// One sample per offset of a group, as long as there are not too many.
fn per_offset(
    gathered: &Gathered<'_>,
    samples: &mut Samples,
    value: fn(&OffsetSample) -> Option<f64>,
) {
    let groups = &gathered.observation.groups;
    for group in groups.shown.iter().filter(|_| groups.in_detail) {
        for offset in &group.offsets {
            if let Some(value) = value(offset) {
                let partition = offset.partition.to_string();
                samples.add(&[&group.group, &offset.topic, &partition], value);
            }
        }
    }
}

/// One sample per group and topic: the sum over what is committed.
fn per_group_topic(
    gathered: &Gathered<'_>,
    samples: &mut Samples,
    value: fn(&OffsetSample) -> Option<i64>,
) {
    for group in &gathered.observation.groups.shown {
        let same_topic = |one: &OffsetSample, next: &OffsetSample| one.topic == next.topic;
        for of_topic in group.offsets.chunk_by(same_topic) {
            let sum: i64 = of_topic.iter().filter_map(value).sum();
            samples.add(&[&group.group, &of_topic[0].topic], sum as f64);
        }
    }
}

fn per_log_dir(
    gathered: &Gathered<'_>,
    samples: &mut Samples,
    value: fn(&LogDirSample) -> Option<f64>,
) {
    for dir in &gathered.observation.log_dirs {
        if let Some(value) = value(dir) {
            samples.add(&[&dir.path], value);
        }
    }
}

fn per_group(gathered: &Gathered<'_>, samples: &mut Samples, value: fn(&GroupSample) -> usize) {
    for group in &gathered.observation.groups.shown {
        samples.add(&[&group.group], value(group) as f64);
    }
}

/// One sample per partition, or one per topic when there are too many.
fn per_partition(
    gathered: &Gathered<'_>,
    samples: &mut Samples,
    value: fn(&PartitionSample) -> Option<f64>,
) {
    for sample in gathered.partitions_in_detail() {
        if let Some(value) = value(sample) {
            samples.add(&[&sample.topic, &sample.partition.to_string()], value);
        }
    }
}

fn log_value(sample: &PartitionSample, value: fn(&LogSample) -> i64) -> Option<f64> {
    sample.log.as_ref().map(|log| value(log) as f64)
}

fn per_topic(gathered: &Gathered<'_>, samples: &mut Samples, value: fn(&PartitionCounts) -> u64) {
    for (topic, counts) in gathered.counts_by_topic() {
        samples.add_count(&[topic], value(counts));
    }
}

fn partitions_where(gathered: &Gathered<'_>, matches: fn(&PartitionSample) -> bool) -> f64 {
    gathered
        .observation
        .partitions
        .iter()
        .filter(|sample| matches(sample))
        .count() as f64
}

fn is_under_replicated(sample: &PartitionSample) -> bool {
    sample.in_sync_replicas < sample.replicas
}

fn per_request(gathered: &Gathered<'_>, mut add: impl FnMut(&'static str, &HistogramSnapshot)) {
    for (key, histogram) in &gathered.counters.requests {
        add(super::exposition::api_name(*key), histogram);
    }
}

pub const METRICS: &[Metric] = &[
    // What this product promises.
    row(
        Counter,
        "commitlog_messages_produced_total",
        "records",
        PARTITION,
        "Records appended by producers. With many partitions, summed per topic under partition \
        \"all\".",
        |gathered, samples| {
            for sample in gathered.partitions_in_detail() {
                let labels: [&str; 2] = [&sample.topic, &sample.partition.to_string()];
                samples.add_count(&labels, sample.counts.messages_in);
            }
            for (topic, counts) in gathered.topics_without_detail() {
                samples.add_count(&[topic, "all"], counts.messages_in);
            }
        },
    ),
    row(
        Counter,
        "commitlog_messages_consumed_total",
        "records",
        &["topic", "group"],
        "Records handed to consumers, by offsets. The group is empty for reads outside of groups.",
        |gathered, samples| {
            for (topic, counts) in gathered.counts_by_topic() {
                samples.add_count(&[topic, ""], counts.messages_out);
            }
        },
    ),
    row(
        Gauge,
        "commitlog_partition_size_bytes",
        "bytes",
        PARTITION,
        "Bytes of a partition's log. With many partitions, summed per topic under partition \
        \"all\".",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                sample.log.as_ref().map(|log| log.size_bytes as f64)
            });
            for (topic, bytes) in gathered.sizes_without_detail() {
                samples.add(&[topic, "all"], bytes as f64);
            }
        },
    ),
    row(
        Gauge,
        "commitlog_consumer_lag",
        "records",
        GROUP_OFFSET,
        "Records between what a group has committed and the high watermark.",
        |gathered, samples| per_offset(gathered, samples, |one| one.lag.map(|lag| lag as f64)),
    ),
    // kafka_exporter's names.
    row(
        Gauge,
        "kafka_brokers",
        "brokers",
        NONE,
        "Brokers that are alive.",
        |gathered, samples| {
            let alive = gathered
                .observation
                .brokers
                .iter()
                .filter(|broker| broker.alive)
                .count();
            samples.add(&[], alive as f64);
        },
    ),
    row(
        Gauge,
        "kafka_broker_info",
        "",
        &["id", "address"],
        "Always 1: a broker and its address.",
        |gathered, samples| {
            for broker in &gathered.observation.brokers {
                samples.add(&[&broker.id.to_string(), &broker.address], 1.0);
            }
        },
    ),
    row(
        Gauge,
        "kafka_topic_partitions",
        "partitions",
        TOPIC,
        "Partitions of a topic.",
        |gathered, samples| {
            for (topic, partitions) in gathered.partitions_by_topic() {
                samples.add(&[topic], partitions.len() as f64);
            }
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_current_offset",
        "offset",
        PARTITION,
        "High watermark of a partition.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                log_value(sample, |log| log.high_watermark)
            });
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_oldest_offset",
        "offset",
        PARTITION,
        "First offset of a partition.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                log_value(sample, |log| log.log_start_offset)
            });
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_in_sync_replica",
        "replicas",
        PARTITION,
        "Replicas in sync.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                Some(sample.in_sync_replicas as f64)
            });
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_leader",
        "broker id",
        PARTITION,
        "Leader of a partition; -1 for none.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| Some(f64::from(sample.leader)));
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_leader_is_preferred",
        "",
        PARTITION,
        "1 if a partition is led by its preferred replica.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                Some(f64::from(u8::from(
                    sample.leader == sample.preferred_leader,
                )))
            });
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_replicas",
        "replicas",
        PARTITION,
        "Replicas of a partition.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| Some(sample.replicas as f64));
        },
    ),
    row(
        Gauge,
        "kafka_topic_partition_under_replicated_partition",
        "",
        PARTITION,
        "1 if a partition has replicas that are not in sync.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                Some(f64::from(u8::from(is_under_replicated(sample))))
            });
        },
    ),
    row(
        Gauge,
        "kafka_consumergroup_current_offset",
        "offset",
        EXPORTER_GROUP_OFFSET,
        "What a group has committed; -1 for nothing in a partition that it reads.",
        |gathered, samples| per_offset(gathered, samples, |one| Some(one.committed as f64)),
    ),
    row(
        Gauge,
        "kafka_consumergroup_lag",
        "records",
        EXPORTER_GROUP_OFFSET,
        "Records between what a group has committed and the high watermark; -1 where nothing is \
        committed.",
        |gathered, samples| {
            per_offset(gathered, samples, |one| {
                let uncommitted = (one.committed < 0).then_some(-1.0);
                one.lag.map(|lag| lag as f64).or(uncommitted)
            });
        },
    ),
    row(
        Gauge,
        "kafka_consumergroup_current_offset_sum",
        "offset",
        EXPORTER_GROUP_TOPIC,
        "Sum of what a group has committed in a topic.",
        |gathered, samples| {
            per_group_topic(gathered, samples, |one| {
                (one.committed >= 0).then_some(one.committed)
            });
        },
    ),
    row(
        Gauge,
        "kafka_consumergroup_lag_sum",
        "records",
        EXPORTER_GROUP_TOPIC,
        "Sum of a group's lag in a topic.",
        |gathered, samples| per_group_topic(gathered, samples, |one| one.lag),
    ),
    row(
        Gauge,
        "kafka_consumergroup_members",
        "members",
        EXPORTER_GROUP,
        "Members of a group.",
        |gathered, samples| per_group(gathered, samples, |group| group.members),
    ),
    // The JMX exporter's names.
    row(
        Counter,
        "kafka_server_brokertopicmetrics_messagesin_total",
        "records",
        TOPIC,
        "Records appended by producers.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.messages_in),
    ),
    row(
        Counter,
        "kafka_server_brokertopicmetrics_bytesin_total",
        "bytes",
        TOPIC,
        "Bytes of batches appended by producers.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.bytes_in),
    ),
    row(
        Counter,
        "kafka_server_brokertopicmetrics_bytesout_total",
        "bytes",
        TOPIC,
        "Bytes of batches handed to consumers.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.bytes_out),
    ),
    row(
        Counter,
        "kafka_server_brokertopicmetrics_totalproducerequests_total",
        "requests",
        TOPIC,
        "Appends asked for, one per partition of a Produce request.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.produce_requests),
    ),
    row(
        Counter,
        "kafka_server_brokertopicmetrics_failedproducerequests_total",
        "requests",
        TOPIC,
        "Appends that failed.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.produce_failures),
    ),
    row(
        Counter,
        "kafka_server_brokertopicmetrics_totalfetchrequests_total",
        "requests",
        TOPIC,
        "Reads asked for, one per partition of a Fetch request.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.fetch_requests),
    ),
    row(
        Counter,
        "kafka_server_brokertopicmetrics_failedfetchrequests_total",
        "requests",
        TOPIC,
        "Reads that failed.",
        |gathered, samples| per_topic(gathered, samples, |counts| counts.fetch_failures),
    ),
    row(
        Gauge,
        "kafka_server_replicamanager_partitioncount",
        "partitions",
        NONE,
        "Partitions hosted by this broker.",
        |gathered, samples| samples.add(&[], partitions_where(gathered, |one| one.log.is_some())),
    ),
    row(
        Gauge,
        "kafka_server_replicamanager_leadercount",
        "partitions",
        NONE,
        "Partitions led by this broker.",
        |gathered, samples| {
            let node_id = gathered.observation.node_id;
            let led = gathered
                .observation
                .partitions
                .iter()
                .filter(|one| one.leader == node_id);
            samples.add(&[], led.count() as f64);
        },
    ),
    row(
        Gauge,
        "kafka_server_replicamanager_underreplicatedpartitions",
        "partitions",
        NONE,
        "Partitions with replicas that are not in sync.",
        |gathered, samples| samples.add(&[], partitions_where(gathered, is_under_replicated)),
    ),
    row(
        Gauge,
        "kafka_server_replicamanager_underminisrpartitioncount",
        "partitions",
        NONE,
        "Partitions with fewer replicas in sync than min.insync.replicas asks for.",
        |gathered, samples| {
            let under = |one: &PartitionSample| one.in_sync_replicas < one.min_insync_replicas;
            samples.add(&[], partitions_where(gathered, under));
        },
    ),
    row(
        Gauge,
        "kafka_server_replicamanager_offlinereplicacount",
        "partitions",
        NONE,
        "Partitions led by this broker whose log is offline.",
        |gathered, samples| {
            let node_id = gathered.observation.node_id;
            let offline = gathered.observation.partitions.iter();
            let offline = offline.filter(|one| one.leader == node_id && one.log.is_none());
            samples.add(&[], offline.count() as f64);
        },
    ),
    row(
        Gauge,
        "kafka_controller_kafkacontroller_activecontrollercount",
        "",
        NONE,
        "1 on the node that is the active controller.",
        |gathered, samples| {
            samples.add(
                &[],
                f64::from(u8::from(gathered.observation.is_active_controller)),
            );
        },
    ),
    row(
        Gauge,
        "kafka_controller_kafkacontroller_activebrokercount",
        "brokers",
        NONE,
        "Brokers that are alive.",
        |gathered, samples| {
            let alive = gathered
                .observation
                .brokers
                .iter()
                .filter(|broker| broker.alive);
            samples.add(&[], alive.count() as f64);
        },
    ),
    row(
        Gauge,
        "kafka_controller_kafkacontroller_fencedbrokercount",
        "brokers",
        NONE,
        "Registered brokers that are not alive.",
        |gathered, samples| {
            let fenced = gathered
                .observation
                .brokers
                .iter()
                .filter(|broker| !broker.alive);
            samples.add(&[], fenced.count() as f64);
        },
    ),
    row(
        Gauge,
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "partitions",
        NONE,
        "Partitions without a leader.",
        |gathered, samples| samples.add(&[], partitions_where(gathered, |one| one.leader < 0)),
    ),
    row(
        Counter,
        "kafka_network_requestmetrics_requests_total",
        "requests",
        REQUEST,
        "Requests handled.",
        |gathered, samples| {
            per_request(gathered, |api, histogram| {
                samples.add_count(&[api], histogram.count())
            });
        },
    ),
    row(
        Counter,
        "kafka_network_requestmetrics_errors_total",
        "errors",
        &["request", "error"],
        "Error codes answered, one per partition or resource.",
        |gathered, samples| {
            for ((key, code), count) in &gathered.counters.request_errors {
                let api = super::exposition::api_name(*key);
                samples.add_count(&[api, super::exposition::error_name(*code)], *count);
            }
        },
    ),
    row(
        Gauge,
        "kafka_log_logmanager_offlinelogdirectorycount",
        "directories",
        NONE,
        "Log directories that have failed.",
        |gathered, samples| {
            let dirs = gathered.observation.log_dirs.iter();
            samples.add(&[], dirs.filter(|dir| !dir.is_online()).count() as f64);
        },
    ),
    row(
        Gauge,
        "kafka_log_logmanager_logdirectoryoffline",
        "",
        LOG_DIR,
        "1: the log directory has failed.",
        |gathered, samples| {
            per_log_dir(gathered, samples, |dir| {
                Some(f64::from(u8::from(!dir.is_online())))
            });
        },
    ),
    row(
        Gauge,
        "ottla_log_directory_hung",
        "",
        LOG_DIR,
        "1: the disk of the log directory does not answer; its requests are refused until it does.",
        |gathered, samples| {
            per_log_dir(gathered, samples, |dir| {
                Some(f64::from(u8::from(dir.state == "hung")))
            });
        },
    ),
    row(
        Gauge,
        "ottla_log_directory_partitions",
        "partitions",
        LOG_DIR,
        "Partitions in a log directory or on their way there.",
        |gathered, samples| per_log_dir(gathered, samples, |dir| Some(dir.partitions as f64)),
    ),
    row(
        Gauge,
        "ottla_log_directory_free_bytes",
        "bytes",
        LOG_DIR,
        "Free bytes on the disk of a log directory, as of the last look.",
        |gathered, samples| {
            per_log_dir(gathered, samples, |dir| {
                dir.free_bytes.map(|bytes| bytes as f64)
            });
        },
    ),
    row(
        Gauge,
        "ottla_log_directory_total_bytes",
        "bytes",
        LOG_DIR,
        "Size of the disk of a log directory.",
        |gathered, samples| {
            per_log_dir(gathered, samples, |dir| {
                dir.total_bytes.map(|bytes| bytes as f64)
            });
        },
    ),
    row(
        Gauge,
        "ottla_log_directory_state",
        "",
        &["log_dir", "state"],
        "Always 1: the state of a log directory: online, low (below the warning mark), full (records \
        are refused), read-only or offline.",
        |gathered, samples| {
            for dir in &gathered.observation.log_dirs {
                samples.add(&[&dir.path, dir.state], 1.0);
            }
        },
    ),
    row(
        Gauge,
        "kafka_log_log_size",
        "bytes",
        PARTITION,
        "Bytes of a partition's log.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                sample.log.as_ref().map(|log| log.size_bytes as f64)
            });
        },
    ),
    row(
        Gauge,
        "kafka_log_log_logstartoffset",
        "offset",
        PARTITION,
        "First offset of a partition's log.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                log_value(sample, |log| log.log_start_offset)
            });
        },
    ),
    row(
        Gauge,
        "kafka_log_log_logendoffset",
        "offset",
        PARTITION,
        "Offset that the next record of a partition's log gets.",
        |gathered, samples| {
            per_partition(gathered, samples, |sample| {
                log_value(sample, |log| log.log_end_offset)
            });
        },
    ),
    // Our own.
    row(
        Gauge,
        "ottla_build_info",
        "",
        &["version"],
        "Always 1: the version that runs.",
        |_, samples| samples.add(&[env!("CARGO_PKG_VERSION")], 1.0),
    ),
    row(
        Gauge,
        "ottla_ready",
        "",
        NONE,
        "1 once the broker serves clients.",
        |gathered, samples| {
            samples.add(&[], f64::from(u8::from(gathered.observation.ready)));
        },
    ),
    row(
        Histogram,
        "ottla_request_latency_seconds",
        "seconds",
        REQUEST,
        "Time from a request's last byte to its answer, waiting for commits and records included.",
        |gathered, samples| {
            per_request(gathered, |api, histogram| {
                samples.add_histogram(&[api], histogram)
            });
        },
    ),
    row(
        Gauge,
        "ottla_connections",
        "connections",
        NONE,
        "Open connections of Kafka clients.",
        |gathered, samples| samples.add(&[], gathered.counters.connections_open() as f64),
    ),
    row(
        Counter,
        "ottla_connections_opened_total",
        "connections",
        NONE,
        "Connections of Kafka clients that were accepted.",
        |gathered, samples| samples.add_count(&[], gathered.counters.connections_opened),
    ),
    row(
        Counter,
        "ottla_connections_closed_total",
        "connections",
        &["reason"],
        "Connections that ended, and why: by the client, by limits, because of malformed requests.",
        |gathered, samples| {
            for (reason, count) in &gathered.counters.connections_closed {
                samples.add_count(&[reason], *count);
            }
        },
    ),
    row(
        Counter,
        "ottla_network_received_bytes_total",
        "bytes",
        NONE,
        "Bytes read from Kafka clients.",
        |gathered, samples| samples.add_count(&[], gathered.counters.received_bytes),
    ),
    row(
        Counter,
        "ottla_network_sent_bytes_total",
        "bytes",
        NONE,
        "Bytes written to Kafka clients.",
        |gathered, samples| samples.add_count(&[], gathered.counters.sent_bytes),
    ),
    row(
        Histogram,
        "ottla_flush_latency_seconds",
        "seconds",
        NONE,
        "Time that syncing a log to disk takes.",
        |gathered, samples| samples.add_histogram(&[], &gathered.counters.flushes),
    ),
    row(
        Histogram,
        "ottla_cold_read_seconds",
        "seconds",
        NONE,
        "Time that requests waited for what was not in memory: reads of Fetch, and searches of \
         ListOffsets by time. Its count is the number of such reads.",
        |gathered, samples| samples.add_histogram(&[], &gathered.counters.cold_reads),
    ),
    row(
        Counter,
        "ottla_cold_read_bytes_total",
        "bytes",
        NONE,
        "Bytes of records that reads of Fetch have found by waiting for the disk.",
        |gathered, samples| samples.add_count(&[], gathered.counters.cold_read_bytes),
    ),
    row(
        Counter,
        "ottla_flush_failures_total",
        "flushes",
        NONE,
        "Syncs that failed; each takes a partition offline until the broker is restarted.",
        |gathered, samples| samples.add_count(&[], gathered.counters.flush_failures),
    ),
    row(
        Counter,
        "ottla_flush_zeros_written_bytes_total",
        "bytes",
        NONE,
        "Zeros written behind the data of logs whose syncs are small, so that those cost less.",
        |gathered, samples| samples.add_count(&[], gathered.counters.zeros_bytes),
    ),
    row(
        Gauge,
        "ottla_dirty_bytes",
        "bytes",
        &["log_dir"],
        "Bytes written to a log directory that are neither synced nor written back; beyond \
        ottla.dirty.max.bytes producers are slowed.",
        |gathered, samples| {
            for (dir, bytes) in &gathered.observation.dirty {
                samples.add(&[dir], *bytes as f64);
            }
        },
    ),
    row(
        Counter,
        "ottla_produce_slowed_total",
        "batches",
        NONE,
        "Batches whose answer waited for the disk because its budget was spent.",
        |gathered, samples| samples.add_count(&[], gathered.counters.slowed),
    ),
    row(
        Histogram,
        "ottla_record_work_seconds",
        "seconds",
        NONE,
        "Time that opening a compressed batch, to check its records or to compress them anew, \
        takes away from the data path.",
        |gathered, samples| samples.add_histogram(&[], &gathered.counters.opened),
    ),
    row(
        Counter,
        "ottla_retention_segments_total",
        "segments",
        &["reason"],
        "Segments that retention gave up: because of their age, of the log's size, or of a log start \
        behind them.",
        |gathered, samples| {
            for reason in Reason::ALL {
                let expired = gathered.counters.expired.get(&reason);
                samples.add_count(
                    &[reason.name()],
                    expired.map_or(0, |(segments, _)| *segments),
                );
            }
        },
    ),
    row(
        Counter,
        "ottla_retention_bytes_total",
        "bytes",
        &["reason"],
        "Bytes of those segments.",
        |gathered, samples| {
            for reason in Reason::ALL {
                let expired = gathered.counters.expired.get(&reason);
                samples.add_count(&[reason.name()], expired.map_or(0, |(_, bytes)| *bytes));
            }
        },
    ),
    row(
        Counter,
        "ottla_scrub_passes_total",
        "passes",
        NONE,
        "Times that all sealed data of a log directory was read again and checked.",
        |gathered, samples| samples.add_count(&[], gathered.observation.scrub.passes),
    ),
    row(
        Counter,
        "ottla_scrub_bytes_total",
        "bytes",
        NONE,
        "Bytes of sealed segments that were read again and checked.",
        |gathered, samples| samples.add_count(&[], gathered.observation.scrub.bytes),
    ),
    row(
        Counter,
        "ottla_scrub_errors_total",
        "places",
        NONE,
        "Damaged places that the scrub found, and segments that it could not read.",
        |gathered, samples| samples.add_count(&[], gathered.observation.scrub.errors),
    ),
    row(
        Gauge,
        "ottla_scrub_damaged_places",
        "places",
        NONE,
        "Places in segments that are known to be damaged now; /health names them.",
        |gathered, samples| samples.add(&[], gathered.observation.scrub.damaged as f64),
    ),
    row(
        Counter,
        "ottla_compaction_rounds_total",
        "rounds",
        NONE,
        "Rounds of compaction that came to their end.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.rounds),
    ),
    row(
        Counter,
        "ottla_compaction_failures_total",
        "rounds",
        NONE,
        "Rounds of compaction that ended with an error.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.failures),
    ),
    row(
        Counter,
        "ottla_compaction_read_bytes_total",
        "bytes",
        NONE,
        "Bytes that compaction read.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.read_bytes),
    ),
    row(
        Counter,
        "ottla_compaction_written_bytes_total",
        "bytes",
        NONE,
        "Bytes that compaction wrote.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.written_bytes),
    ),
    row(
        Counter,
        "ottla_compaction_records_read_total",
        "records",
        NONE,
        "Records that compaction looked at while it wrote segments anew.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.records_read),
    ),
    row(
        Counter,
        "ottla_compaction_records_kept_total",
        "records",
        NONE,
        "Records of those that stayed.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.records_kept),
    ),
    row(
        Counter,
        "ottla_compaction_unreadable_batches_total",
        "batches",
        NONE,
        "Batches that compaction kept as they are because their records cannot be read.",
        |gathered, samples| samples.add_count(&[], gathered.observation.cleaner.unreadable),
    ),
    row(
        Gauge,
        "ottla_compaction_uncleanable_partitions",
        "partitions",
        NONE,
        "Logs that compaction leaves alone because their bytes contradict themselves.",
        |gathered, samples| samples.add(&[], gathered.observation.cleaner.uncleanable as f64),
    ),
    row(
        Gauge,
        "kafka_log_logcleanermanager_uncleanable_partitions_count",
        "partitions",
        NONE,
        "The same under the name of the JMX exporter.",
        |gathered, samples| samples.add(&[], gathered.observation.cleaner.uncleanable as f64),
    ),
    row(
        Gauge,
        "kafka_log_logcleanermanager_max_dirty_percent",
        "percent",
        NONE,
        "Share of bytes that are not compacted, of the log where it is largest.",
        |gathered, samples| {
            let percent = gathered.observation.cleaner.max_dirty_percent;
            samples.add(&[], percent as f64);
        },
    ),
    row(
        Gauge,
        "ottla_compaction_last_round_seconds",
        "seconds",
        NONE,
        "Time that the last round of compaction took.",
        |gathered, samples| {
            let took_ms = gathered.observation.cleaner.last_round_ms;
            samples.add(&[], took_ms as f64 / 1_000.0);
        },
    ),
    row(
        Gauge,
        "ottla_fetch_sessions",
        "sessions",
        NONE,
        "Fetch sessions remembered.",
        |gathered, samples| samples.add(&[], gathered.observation.fetch_sessions as f64),
    ),
    row(
        Gauge,
        "ottla_consumer_lag_seconds",
        "seconds",
        GROUP_OFFSET,
        "Age of the oldest batch that a group has not read all of; 0 when it has read everything.",
        |gathered, samples| per_offset(gathered, samples, |one| one.lag_seconds),
    ),
    row(
        Gauge,
        "ottla_groups",
        "groups",
        &["type", "state"],
        "Groups that this broker coordinates.",
        |gathered, samples| {
            for ((kind, state), count) in &gathered.observation.groups.by_state {
                samples.add(&[kind, state], *count as f64);
            }
        },
    ),
    row(
        Gauge,
        "ottla_group_unowned_partitions",
        "partitions",
        &["group"],
        "Partitions of topics that a stable group subscribes to by name and that none of its members \
        reads. What is new here is also a line in the log.",
        |gathered, samples| per_group(gathered, samples, |group| group.unowned),
    ),
    row(
        Counter,
        "ottla_group_rebalances_total",
        "rebalances",
        CAUSE,
        "Rebalances of groups that began, by cause.",
        |gathered, samples| {
            let counts = gathered.counters.groups.rebalances;
            for (cause, count) in RebalanceCause::ALL.iter().zip(counts) {
                samples.add_count(&[cause.name()], count);
            }
        },
    ),
    row(
        Counter,
        "ottla_group_members_removed_total",
        "members",
        CAUSE,
        "Members that were removed from groups without having left, by cause.",
        |gathered, samples| {
            let counts = gathered.counters.groups.removals;
            for (cause, count) in RemovalCause::ALL.iter().zip(counts) {
                samples.add_count(&[cause.name()], count);
            }
        },
    ),
    row(
        Counter,
        "ottla_group_offset_commits_total",
        "offsets",
        NONE,
        "Offsets that groups committed, one per partition.",
        |gathered, samples| samples.add_count(&[], gathered.counters.groups.commits),
    ),
    row(
        Counter,
        "ottla_group_offsets_expired_total",
        "offsets",
        NONE,
        "Committed offsets that were dropped after their retention.",
        |gathered, samples| samples.add_count(&[], gathered.counters.groups.expired),
    ),
    row(
        Histogram,
        "ottla_group_coordinator_load_seconds",
        "seconds",
        NONE,
        "Time that building a coordinator from its partition takes.",
        |gathered, samples| samples.add_histogram(&[], &gathered.counters.groups.loads),
    ),
    row(
        Gauge,
        "ottla_metrics_left_out",
        "",
        &["what"],
        "What there is too much of to be shown one by one: partitions, groups, offsets of groups.",
        |gathered, samples| {
            let groups = &gathered.observation.groups;
            let offsets = groups.shown.iter().map(|group| group.offsets.len());
            let offsets: usize = offsets.filter(|_| !groups.in_detail).sum();
            samples.add(&["partitions"], gathered.partitions_left_out() as f64);
            samples.add(&["groups"], groups.left_out as f64);
            samples.add(&["group_offsets"], offsets as f64);
        },
    ),
    row(
        Gauge,
        "ottla_tail_memory_bytes",
        "bytes",
        NONE,
        "Memory of the newest batches, from which consumers at the end of a log are served.",
        |gathered, samples| samples.add(&[], gathered.observation.tail_bytes as f64),
    ),
    row(
        Gauge,
        "ottla_image_lag_records",
        "records",
        NONE,
        "Committed records of groups that are not in their images: what a start would replay.",
        |gathered, samples| samples.add(&[], gathered.observation.image_lag_records as f64),
    ),
    row(
        Counter,
        "ottla_image_failures_total",
        "failures",
        NONE,
        "Times that the store of images failed; groups go on, a start would take longer.",
        |gathered, samples| samples.add_count(&[], gathered.observation.image_failures),
    ),
    // Prometheus' names for any process.
    row(
        Counter,
        "process_cpu_seconds_total",
        "seconds",
        NONE,
        "Processor time used.",
        |gathered, samples| samples.add_of(gathered.process, |process| process.cpu_seconds),
    ),
    row(
        Gauge,
        "process_resident_memory_bytes",
        "bytes",
        NONE,
        "Memory in use, mapped log segments included.",
        |gathered, samples| {
            samples.add_of(gathered.process, |process| {
                process.resident_memory_bytes as f64
            });
        },
    ),
    row(
        Gauge,
        "process_virtual_memory_bytes",
        "bytes",
        NONE,
        "Address space in use.",
        |gathered, samples| {
            samples.add_of(gathered.process, |process| {
                process.virtual_memory_bytes as f64
            });
        },
    ),
    row(
        Gauge,
        "process_threads",
        "threads",
        NONE,
        "Threads.",
        |gathered, samples| {
            samples.add_of(gathered.process, |process| process.threads as f64);
        },
    ),
    row(
        Gauge,
        "process_open_fds",
        "descriptors",
        NONE,
        "Open file descriptors.",
        |gathered, samples| samples.add_of(gathered.process, |process| process.open_fds as f64),
    ),
    row(
        Gauge,
        "process_max_fds",
        "descriptors",
        NONE,
        "Limit of open file descriptors.",
        |gathered, samples| samples.add_of(gathered.process, |process| process.max_fds as f64),
    ),
];

/// Counters of all partitions of each topic.
pub(super) fn sum_by_topic(partitions: &[PartitionSample]) -> BTreeMap<Arc<str>, PartitionCounts> {
    let mut sums = BTreeMap::<Arc<str>, PartitionCounts>::new();
    for sample in partitions {
        let sum = sums.entry(sample.topic.clone()).or_default();
        *sum = [*sum, sample.counts].into_iter().sum();
    }
    sums
}
