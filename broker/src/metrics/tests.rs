//! The table is well formed, the text is what Prometheus reads, and numbers agree under all names.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

fn partition(topic: &str, index: i32, messages_in: u64) -> PartitionSample {
    let counters = PartitionCounters::default();
    counters.produced(messages_in, 10 * messages_in);
    counters.fetched(messages_in / 2, 5 * messages_in);
    counters.produce_failed();
    PartitionSample {
        topic: Arc::from(topic),
        partition: index,
        leader: 1,
        preferred_leader: 1,
        replicas: 1,
        in_sync_replicas: 1,
        min_insync_replicas: 1,
        log: Some(LogSample {
            log_start_offset: 0,
            high_watermark: 7,
            log_end_offset: 9,
            size_bytes: 100,
        }),
        counts: counters.counts(),
    }
}

fn log_dir(path: &str, state: &'static str, failure: Option<&str>) -> LogDirSample {
    LogDirSample {
        path: path.into(),
        state,
        failure: failure.map(str::to_owned),
        partitions: 2,
        free_bytes: failure.is_none().then_some(100),
        total_bytes: failure.is_none().then_some(1_000),
    }
}

fn observation() -> Observation {
    let offline = PartitionSample {
        log: None,
        in_sync_replicas: 0,
        ..partition("b", 0, 1)
    };
    Observation {
        node_id: 1,
        ready: true,
        partitions: vec![partition("a", 0, 10), partition("a", 1, 32), offline],
        log_dirs: vec![
            log_dir("/ok", "low", None),
            log_dir("/gone", "offline", Some("it burnt")),
        ],
        brokers: vec![
            BrokerSample {
                id: 1,
                address: "h:9092".into(),
                alive: true,
            },
            BrokerSample {
                id: 2,
                address: "i:9092".into(),
                alive: false,
            },
        ],
        is_active_controller: true,
        fetch_sessions: 3,
        groups: groups(),
        scrub: crate::scrubber::ScrubSample {
            passes: 1,
            bytes: 2,
            errors: 3,
            damaged: 4,
        },
        damaged: vec!["t-0/00000000000000000000.log is damaged at 7".into()],
        cleaner: crate::cleaner::CleanerSample {
            uncleanable: 2,
            ..crate::cleaner::CleanerSample::default()
        },
        tail_bytes: 11,
        dirty: vec![(Arc::from("/data"), 12)],
        image_lag_records: 12,
        image_failures: 13,
    }
}

fn groups() -> GroupsSample {
    let offset = |topic: &str, partition, committed, lag: Option<i64>| OffsetSample {
        topic: topic.to_owned(),
        partition,
        committed,
        lag,
        lag_seconds: lag.map(|lag| lag as f64 / 2.0),
    };
    GroupsSample {
        by_state: BTreeMap::from([(("classic", "Stable"), 1), (("classic", "Empty"), 4)]),
        shown: vec![GroupSample {
            group: "g".into(),
            members: 2,
            unowned: 1,
            offsets: vec![
                offset("a", 0, 5, Some(2)),
                offset("a", 1, -1, None),
                offset("b", 0, 9, Some(7)),
            ],
        }],
        left_out: 4,
        in_detail: true,
    }
}

#[test]
fn a_group_has_its_lag_under_every_name() {
    let text = answer(Detail::Partition);
    let of = |series| value(&text, series);
    let lag = r#"commitlog_consumer_lag{group="g",topic="a",partition="0"}"#;
    assert_eq!(of(lag), "2.0");
    let exporter = |name: &str, labels: &str| {
        let series = format!("kafka_consumergroup_{name}{{consumergroup=\"g\"{labels}}}");
        value(&text, &series).to_owned()
    };
    let (zero, one) = (r#",topic="a",partition="0""#, r#",topic="a",partition="1""#);
    assert_eq!(
        (exporter("lag", zero), exporter("lag", one)),
        ("2.0".into(), "-1.0".into())
    );
    assert_eq!(exporter("current_offset", one), "-1.0");
    assert_eq!(exporter("current_offset_sum", r#",topic="a""#), "5.0");
    assert_eq!(exporter("lag_sum", r#",topic="b""#), "7.0");
    assert_eq!(exporter("members", ""), "2.0");
    assert_eq!(of(r#"ottla_groups{type="classic",state="Empty"}"#), "4.0");
    assert_eq!(of(r#"ottla_group_unowned_partitions{group="g"}"#), "1.0");
    let seconds = r#"ottla_consumer_lag_seconds{group="g",topic="b",partition="0"}"#;
    assert_eq!(of(seconds), "3.5");
    assert!(!text.contains(r#"commitlog_consumer_lag{group="g",topic="a",partition="1"}"#));
    assert_eq!(of(r#"ottla_metrics_left_out{what="groups"}"#), "4.0");
    assert_eq!(
        of(r#"ottla_group_rebalances_total{cause="member_joined"}"#),
        "0"
    );
}

#[test]
fn offsets_of_too_many_groups_are_only_summed() {
    let mut observation = observation();
    observation.groups.in_detail = false;
    let snapshot = Metrics::new().snapshot();
    let text = render(&snapshot, &observation, None, Detail::Partition);
    assert!(!text.contains("commitlog_consumer_lag{"));
    assert_eq!(
        value(
            &text,
            r#"kafka_consumergroup_lag_sum{consumergroup="g",topic="a"}"#
        ),
        "2.0"
    );
    assert_eq!(
        value(&text, r#"ottla_metrics_left_out{what="group_offsets"}"#),
        "3.0"
    );
}

fn answer(detail: Detail) -> String {
    let metrics = Metrics::new();
    metrics.request(0, Duration::from_micros(1500));
    metrics.request(0, Duration::from_micros(15));
    metrics.request(1, Duration::from_secs(1));
    metrics.request(-5, Duration::ZERO);
    metrics.request(i16::MAX, Duration::ZERO);
    metrics.request_error(0, 3);
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed("idle");
    metrics.flush(Duration::from_millis(3), false);
    let mut observation = observation();
    observation.groups.in_detail = detail == Detail::Partition;
    render(&metrics.snapshot(), &observation, None, detail)
}

/// The value of the one line with this name and these labels.
fn value<'a>(text: &'a str, series: &str) -> &'a str {
    let prefix = format!("{series} ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    let found = lines
        .next()
        .unwrap_or_else(|| panic!("{series} is missing in\n{text}"));
    assert_eq!(lines.next(), None, "{series} appears twice");
    found
}

#[test]
fn rows_have_unique_names_in_the_format_of_prometheus() {
    let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    for metric in METRICS {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(metric.name.chars().all(plain), "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        let is_total = metric.name.ends_with("_total");
        assert_eq!(
            is_total,
            metric.kind == MetricKind::Counter,
            "{}",
            metric.name
        );
    }
}

#[test]
fn every_family_is_announced_and_the_text_ends_as_it_must() {
    let text = answer(Detail::Partition);
    for metric in METRICS {
        let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        let announced = format!("# TYPE {name} {}", metric.kind.name());
        assert!(
            text.lines().any(|line| line == announced),
            "{announced} is missing"
        );
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_promised_names_carry_exact_numbers() {
    let text = answer(Detail::Partition);
    let of = |series| value(&text, series);
    assert_eq!(
        of(r#"commitlog_messages_produced_total{topic="a",partition="1"}"#),
        "32"
    );
    assert_eq!(
        of(r#"commitlog_messages_consumed_total{topic="a",group=""}"#),
        "21"
    );
    assert_eq!(
        of(r#"commitlog_partition_size_bytes{topic="a",partition="0"}"#),
        "100.0"
    );
    assert_eq!(
        of(r#"kafka_topic_partition_current_offset{topic="a",partition="0"}"#),
        "7.0"
    );
    assert_eq!(of("kafka_brokers"), "1.0");
    assert_eq!(
        of("kafka_controller_kafkacontroller_fencedbrokercount"),
        "1.0"
    );
    assert_eq!(of("kafka_server_replicamanager_offlinereplicacount"), "1.0");
    assert_eq!(
        of("kafka_server_replicamanager_underreplicatedpartitions"),
        "1.0"
    );
    assert_eq!(of("ottla_connections"), "1.0");
    assert_eq!(of(r#"ottla_connections_closed_total{reason="idle"}"#), "1");
    assert_eq!(of("ottla_flush_failures_total"), "1");
    assert_eq!(of("ottla_fetch_sessions"), "3.0");
}

#[test]
fn a_request_is_counted_in_its_histogram_and_under_the_jmx_name() {
    let text = answer(Detail::Partition);
    let of = |series: &str| value(&text, series);
    assert_eq!(
        of(r#"kafka_network_requestmetrics_requests_total{request="Produce"}"#),
        "2"
    );
    assert_eq!(
        of(r#"ottla_request_latency_seconds_count{request="Produce"}"#),
        "2"
    );
    assert_eq!(
        of(r#"ottla_request_latency_seconds_sum{request="Produce"}"#),
        "0.001515"
    );
    assert_eq!(
        of(r#"ottla_request_latency_seconds_bucket{le="0.00002",request="Produce"}"#),
        "1"
    );
    assert_eq!(
        of(r#"ottla_request_latency_seconds_bucket{le="0.002",request="Produce"}"#),
        "2"
    );
    assert_eq!(
        of(r#"ottla_request_latency_seconds_bucket{le="+Inf",request="Produce"}"#),
        "2"
    );
    let labels = r#"{request="Produce",error="UNKNOWN_TOPIC_OR_PARTITION"}"#;
    assert_eq!(
        of(&format!(
            "kafka_network_requestmetrics_errors_total{labels}"
        )),
        "1"
    );
    assert!(!text.contains(r#"request="Unknown""#));
}

#[test]
fn many_partitions_are_summed_per_topic_unless_asked_for() {
    let text = answer(Detail::UpTo(2));
    let of = |series| value(&text, series);
    assert_eq!(
        of(r#"commitlog_messages_produced_total{topic="a",partition="all"}"#),
        "42"
    );
    assert_eq!(
        of(r#"commitlog_partition_size_bytes{topic="a",partition="all"}"#),
        "200.0"
    );
    assert_eq!(of(r#"kafka_topic_partitions{topic="a"}"#), "2.0");
    assert!(!text.contains(r#"partition="0""#));
    assert!(answer(Detail::UpTo(3)).contains(r#"partition="0""#));
}

proptest::proptest! {
    #[test]
    fn the_same_number_is_equal_under_every_name(
        counts in proptest::collection::vec(0u64..1 << 60, 1..20)
    ) {
        let partition = |(count, index): (&u64, i32)| partition("t", index, *count / 32);
        let partitions = counts.iter().zip(0..).map(partition).collect();
        let observation = Observation { partitions, ..Observation::default() };
        let snapshot = Metrics::new().snapshot();
        let sum: u64 = counts.iter().map(|count| count / 32).sum();
        let jmx = r#"kafka_server_brokertopicmetrics_messagesin_total{topic="t"}"#;
        let text = render(&snapshot, &observation, None, Detail::UpTo(0));
        let ours = r#"commitlog_messages_produced_total{topic="t",partition="all"}"#;
        proptest::prop_assert_eq!(value(&text, ours), sum.to_string());
        proptest::prop_assert_eq!(value(&text, jmx), sum.to_string());
        let text = render(&snapshot, &observation, None, Detail::Partition);
        let ours = text.lines().filter(|l| l.starts_with("commitlog_messages_produced_total{"));
        let ours: u64 = ours.filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
        proptest::prop_assert_eq!(ours, sum);
    }
}
