//! Scenarios with the crate rdkafka, inside this process.

use super::Target;
use crate::rust_client::{
    self as client, Record, TIMEOUT, admin, consume, create_topic, delete_topic, only_result,
    options, produce, value_record, wait,
};
use crate::scenario::Scenario;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(super) fn run(scenario: Scenario, target: &Target<'_>) -> Result<()> {
    match scenario {
        Scenario::Metadata => metadata(target),
        Scenario::TopicAdmin => topic_admin(target),
        Scenario::ProduceConsume => produce_consume(target),
        Scenario::Codecs => codecs(target),
        Scenario::Offsets => offsets(target),
        Scenario::Idempotent => idempotent(target),
        Scenario::Configs => configs(target),
        Scenario::Large => large(target),
        Scenario::Acks => acks(target),
        Scenario::Errors => errors(target),
    }
}

fn values(prefix: &str, count: usize) -> Vec<Record> {
    (0..count)
        .map(|index| value_record(format!("{prefix}-{index}").as_bytes()))
        .collect()
}

fn expect_values(target: &Target<'_>, topic: &str, expected: &[Record]) -> Result<()> {
    let found = consume(target.bootstrap, topic, 0, 0, expected.len())?;
    for (expected, found) in expected.iter().zip(&found) {
        ensure!(
            expected.value == found.value,
            "offset {}: another value",
            found.offset
        );
    }
    Ok(())
}

fn topics(target: &Target<'_>) -> Result<Vec<(String, usize)>> {
    let consumer = client::consumer(target.bootstrap, &[])?;
    let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
    let topics = metadata.topics().iter();
    Ok(topics
        .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
        .collect())
}

fn metadata(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("metadata");
    create_topic(target.bootstrap, &topic, 3, &[])?;
    let consumer = client::consumer(target.bootstrap, &[])?;
    let metadata = consumer.fetch_metadata(Some(&topic), TIMEOUT)?;
    let brokers: Vec<i32> = metadata
        .brokers()
        .iter()
        .map(|broker| broker.id())
        .collect();
    let found = metadata.topics().first().context("the topic is missing")?;
    ensure!(
        found.partitions().len() == 3,
        "{} partitions",
        found.partitions().len()
    );
    for partition in found.partitions() {
        ensure!(
            brokers.contains(&partition.leader()),
            "leader {}",
            partition.leader()
        );
        ensure!(
            partition.isr() == [partition.leader()],
            "isr {:?}",
            partition.isr()
        );
    }
    let cluster_id = consumer.client().fetch_cluster_id(TIMEOUT);
    ensure!(cluster_id.is_some_and(|id| !id.is_empty()), "no cluster id");
    ensure!(topics(target)?.contains(&(topic.clone(), 3)), "not listed");
    delete_topic(target.bootstrap, &topic)
}

fn topic_admin(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("admin");
    create_topic(target.bootstrap, &topic, 2, &[("retention.ms", "3600000")])?;
    let admin = admin(target.bootstrap)?;
    let create = |name: &str, options: AdminOptions| {
        let new = NewTopic::new(name, 2, TopicReplication::Fixed(1));
        Ok::<_, anyhow::Error>(only_result(wait(admin.create_topics([&new], &options))?))
    };
    let again = create(&topic, options())?;
    ensure!(
        again == Err(RDKafkaErrorCode::TopicAlreadyExists),
        "{again:?}"
    );
    let bad = create(&target.topic("a b"), options())?;
    ensure!(bad == Err(RDKafkaErrorCode::InvalidTopic), "{bad:?}");
    let checked = target.topic("checked");
    create(&checked, options().validate_only(true))?.map_err(|code| anyhow!(code))?;
    ensure!(
        !topics(target)?.iter().any(|(name, _)| *name == checked),
        "it was really created"
    );
    let grow = |count| {
        let wanted = NewPartitions::new(&topic, count);
        Ok::<_, anyhow::Error>(only_result(wait(
            admin.create_partitions([&wanted], &options()),
        )?))
    };
    grow(5)?.map_err(|code| anyhow!(code))?;
    ensure!(
        topics(target)?.contains(&(topic.clone(), 5)),
        "not five partitions"
    );
    let fewer = grow(3)?;
    ensure!(
        fewer == Err(RDKafkaErrorCode::InvalidPartitions),
        "{fewer:?}"
    );
    delete_topic(target.bootstrap, &topic)?;
    let deadline = Instant::now() + TIMEOUT;
    while topics(target)?.iter().any(|(name, _)| *name == topic) {
        ensure!(
            Instant::now() < deadline,
            "the deleted topic is still listed"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn produce_consume(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("records");
    create_topic(target.bootstrap, &topic, 2, &[])?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let record =
        |key: Option<&str>, value: Option<&str>, headers: &[(&str, Option<&str>)]| Record {
            offset: -1,
            key: key.map(|key| key.as_bytes().to_vec()),
            value: value.map(|value| value.as_bytes().to_vec()),
            headers: headers
                .iter()
                .map(|(key, value)| ((*key).into(), value.map(|value| value.as_bytes().to_vec())))
                .collect(),
            timestamp_ms: Some(now_ms),
        };
    let headers = [
        ("h", Some("1")),
        ("h", Some("2")),
        ("empty", Some("")),
        ("null", None),
    ];
    let mut sent = vec![
        record(Some("k"), Some("v"), &headers),
        record(None, Some("no key"), &[]),
        record(Some("tombstone"), None, &[]),
        record(Some("ключ"), Some("värde ✓"), &[("ü", Some("x"))]),
    ];
    sent.extend((0..2000).map(|index| record(None, Some(&format!("value {index}")), &[])));
    produce(target.bootstrap, &topic, 1, &sent, &[("linger.ms", "5")])?;
    let received = consume(target.bootstrap, &topic, 1, 0, sent.len())?;
    for (offset, (sent, received)) in (0..).zip(sent.iter_mut().zip(&received)) {
        sent.offset = offset;
        ensure!(sent == received, "sent {sent:?}, received {received:?}");
    }
    let middle = consume(target.bootstrap, &topic, 1, 1234, 10)?;
    ensure!(
        middle == received[1234..1244],
        "reading from the middle differs"
    );
    delete_topic(target.bootstrap, &topic)
}

fn codecs(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("codecs");
    create_topic(target.bootstrap, &topic, 1, &[])?;
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let sent = values(&format!("{codec}{}", "x".repeat(500)), 200);
        let settings = [("compression.type", codec), ("linger.ms", "5")];
        produce(target.bootstrap, &topic, 0, &sent, &settings)?;
        expected.extend(sent);
    }
    expect_values(target, &topic, &expected)?;
    delete_topic(target.bootstrap, &topic)
}

fn offsets(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("offsets");
    create_topic(target.bootstrap, &topic, 1, &[])?;
    let base_ms = crate::rust_client::an_hour_ago_ms();
    for index in 0..10 {
        let mut record = value_record(b"x");
        record.timestamp_ms = Some(base_ms + index * 1000);
        produce(target.bootstrap, &topic, 0, &[record], &[])?;
    }
    let marks = client::watermarks(target.bootstrap, &topic, 0)?;
    ensure!(marks == (0, 10), "watermarks {marks:?}");
    let consumer = client::consumer(target.bootstrap, &[])?;
    for (timestamp_ms, expected) in [
        (base_ms - 1, Offset::Offset(0)),
        (base_ms + 4500, Offset::Offset(5)),
        (base_ms + 9000, Offset::Offset(9)),
        (base_ms + 60_000, Offset::End),
    ] {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(&topic, 0, Offset::Offset(timestamp_ms))?;
        let found = consumer.offsets_for_times(wanted, TIMEOUT)?;
        let found = found.elements()[0].offset();
        ensure!(
            found == expected,
            "at {timestamp_ms}: {found:?}, not {expected:?}"
        );
    }
    delete_topic(target.bootstrap, &topic)
}

fn idempotent(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("idempotent");
    create_topic(target.bootstrap, &topic, 1, &[])?;
    let sent = values("i", 5000);
    let settings = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("batch.size", "2000"),
    ];
    produce(target.bootstrap, &topic, 0, &sent, &settings)?;
    ensure!(
        client::watermarks(target.bootstrap, &topic, 0)? == (0, 5000),
        "another number"
    );
    expect_values(target, &topic, &sent)?;
    delete_topic(target.bootstrap, &topic)
}

fn described(target: &Target<'_>, resource: &ResourceSpecifier<'_>) -> Result<ConfigResource> {
    let admin = admin(target.bootstrap)?;
    let mut results = wait(admin.describe_configs([resource], &options()))??;
    results
        .pop()
        .context("an empty answer")?
        .map_err(|code| anyhow!(code))
}

fn configs(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("configs");
    create_topic(target.bootstrap, &topic, 1, &[("retention.ms", "3600000")])?;
    let resource = ResourceSpecifier::Topic(&topic);
    let value = |config: &ConfigResource, key: &str| {
        let entry = config.get(key).with_context(|| format!("no {key}"))?;
        Ok::<_, anyhow::Error>(entry.value.clone().unwrap_or_default())
    };
    let config = described(target, &resource)?;
    ensure!(value(&config, "retention.ms")? == "3600000");
    ensure!(
        config.entries.len() >= 25,
        "only {} topic configs",
        config.entries.len()
    );
    let source = config.get("retention.ms").map(|entry| &entry.source);
    ensure!(
        matches!(source, Some(ConfigSource::DynamicTopic)),
        "source {source:?}"
    );
    let admin = admin(target.bootstrap)?;
    let alter = |key: &str, value: &str| -> Result<()> {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set(key, value);
        wait(admin.alter_configs([&change], &options()))??;
        Ok(())
    };
    alter("max.message.bytes", "2000000")?;
    let config = described(target, &resource)?;
    ensure!(value(&config, "max.message.bytes")? == "2000000");
    // This call, AlterConfigs, replaces everything that was set.
    ensure!(value(&config, "retention.ms")? == "604800000");
    // The crate does not pass on the error of one resource: look at what became of it.
    alter("retention.ms", "soon")?;
    ensure!(value(&described(target, &resource)?, "retention.ms")? == "604800000");
    let consumer = client::consumer(target.bootstrap, &[])?;
    let metadata = consumer.fetch_metadata(Some(&topic), TIMEOUT)?;
    let broker_id = metadata.brokers().first().context("no broker")?.id();
    let broker = described(target, &ResourceSpecifier::Broker(broker_id))?;
    ensure!(value(&broker, "node.id")? == broker_id.to_string());
    ensure!(
        broker.entries.len() >= 150,
        "only {} broker configs",
        broker.entries.len()
    );
    delete_topic(target.bootstrap, &topic)
}

fn large(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("large");
    create_topic(target.bootstrap, &topic, 1, &[])?;
    let value: Vec<u8> = (0..900_000u32).map(|index| (index % 251) as u8).collect();
    let sent = vec![value_record(&value); 8];
    produce(target.bootstrap, &topic, 0, &sent, &[])?;
    let small = [
        ("fetch.message.max.bytes", "1000"),
        ("fetch.max.bytes", "1000000"),
    ];
    for settings in [&small[..], &[]] {
        let found = client::consume_with(target.bootstrap, &topic, 0, 0, 8, settings)?;
        ensure!(
            found
                .iter()
                .all(|record| record.value.as_deref() == Some(&value[..]))
        );
    }
    let limited = target.topic("limited");
    create_topic(
        target.bootstrap,
        &limited,
        1,
        &[("max.message.bytes", "10000")],
    )?;
    let too_large = [value_record(&value[..20_000])];
    expect_code(
        produce(target.bootstrap, &limited, 0, &too_large, &[]),
        &[RDKafkaErrorCode::MessageSizeTooLarge],
    )?;
    produce(target.bootstrap, &limited, 0, &values("small", 1), &[])?;
    delete_topic(target.bootstrap, &limited)?;
    delete_topic(target.bootstrap, &topic)
}

fn acks(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("acks");
    create_topic(target.bootstrap, &topic, 1, &[])?;
    let mut expected = Vec::new();
    for level in ["0", "1", "all"] {
        let sent = values(level, 100);
        produce(target.bootstrap, &topic, 0, &sent, &[("acks", level)])?;
        expected.extend(sent);
        // Without acknowledgement the next producer may overtake: wait until it is there.
        expect_values(target, &topic, &expected)?;
    }
    delete_topic(target.bootstrap, &topic)
}

fn errors(target: &Target<'_>) -> Result<()> {
    let topic = target.topic("errors");
    create_topic(target.bootstrap, &topic, 1, &[])?;
    produce(target.bootstrap, &topic, 0, &values("one", 1), &[])?;
    let past_end = consume(target.bootstrap, &topic, 0, 99, 1);
    let reset = [
        RDKafkaErrorCode::AutoOffsetReset,
        RDKafkaErrorCode::OffsetOutOfRange,
    ];
    expect_code(past_end, &reset)?;
    let admin = admin(target.bootstrap)?;
    let unknown = target.topic("never-made");
    let deleted = only_result(wait(admin.delete_topics(&[&unknown], &options()))?);
    ensure!(
        deleted == Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        "{deleted:?}"
    );
    delete_topic(target.bootstrap, &topic)
}

fn expect_code<T>(result: Result<T>, expected: &[RDKafkaErrorCode]) -> Result<()> {
    let Err(error) = result else {
        bail!("it was accepted, {expected:?} was expected")
    };
    let code = error
        .downcast_ref::<KafkaError>()
        .and_then(KafkaError::rdkafka_error_code);
    ensure!(
        code.is_some_and(|code| expected.contains(&code)),
        "{error:#} ({code:?})"
    );
    Ok(())
}
