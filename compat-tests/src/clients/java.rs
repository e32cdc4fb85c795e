//! Scenarios with Kafka's own command line tools, from its jars on Maven Central.
//!
//! Every call starts a JVM, about a second and a half each. Some tools exit with success although
//! they failed, so what they print is checked, too.

use super::Target;
use crate::process::{Output, cache, is_installed, run, run_ok};
use crate::scenario::Scenario;
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::process::Command;

fn jars() -> PathBuf {
    cache().join("kafka/cp")
}

pub(super) fn missing() -> Option<String> {
    let there = is_installed("java") && jars().is_dir();
    (!there).then(|| "no java or no jars: scripts/clients".to_owned())
}

pub(super) fn run_scenario(scenario: Scenario, target: &Target<'_>) -> Result<()> {
    let topic = target.topic("java");
    match scenario {
        Scenario::Metadata => metadata(target, &topic),
        Scenario::TopicAdmin => topic_admin(target, &topic),
        Scenario::ProduceConsume => produce_consume(target, &topic),
        Scenario::Codecs => codecs(target, &topic),
        Scenario::Offsets => offsets(target, &topic),
        Scenario::Idempotent => idempotent(target, &topic),
        Scenario::Configs => configs(target, &topic),
        Scenario::Large => large(target, &topic),
        Scenario::Acks => acks(target, &topic),
        Scenario::Errors => errors(target, &topic),
    }
}

/// A tool by its class, with arguments separated by spaces.
fn tool(target: &Target<'_>, class: &str, arguments: &str) -> Command {
    let mut command = Command::new("java");
    // Small and quick to start; the tools live for a second.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
    command
        .arg("-cp")
        .arg(format!("{}/*", jars().display()))
        .arg(class);
    command
        .args(["--bootstrap-server", target.bootstrap])
        .args(arguments.split(' '));
    command
}

fn topics(target: &Target<'_>, arguments: &str) -> Result<Output> {
    run(
        &mut tool(target, "org.apache.kafka.tools.TopicCommand", arguments),
        b"",
    )
}

fn topics_ok(target: &Target<'_>, arguments: &str) -> Result<String> {
    let output = topics(target, arguments)?;
    let failed = !output.status.success() || output.all().contains("Error while executing");
    ensure!(!failed, "kafka-topics {arguments}: {}", output.all());
    Ok(output.stdout)
}

fn create(target: &Target<'_>, topic: &str, more: &str) -> Result<String> {
    topics_ok(
        target,
        &format!("--create --topic {topic} --replication-factor 1 {more}"),
    )
}

fn delete(target: &Target<'_>, topic: &str) -> Result<()> {
    topics_ok(target, &format!("--delete --topic {topic}"))?;
    Ok(())
}

fn config_tool(target: &Target<'_>, arguments: &str) -> Result<Output> {
    run(
        &mut tool(target, "kafka.admin.ConfigCommand", arguments),
        b"",
    )
}

fn produce(target: &Target<'_>, topic: &str, arguments: &str, input: &str) -> Result<Output> {
    let arguments = format!("--topic {topic} {arguments}");
    let class = "org.apache.kafka.tools.ConsoleProducer";
    let output = run_ok(&mut tool(target, class, arguments.trim()), input.as_bytes())?;
    ensure!(
        !output.all().contains("ERROR"),
        "console producer: {}",
        output.all()
    );
    Ok(output)
}

/// `count` messages of partition 0 from `offset` on, as the console consumer prints them.
fn consume(
    target: &Target<'_>,
    topic: &str,
    offset: &str,
    count: usize,
    more: &str,
) -> Result<String> {
    let arguments = format!(
        "--topic {topic} --partition 0 --offset {offset} --max-messages {count} --timeout-ms 30000 {more}"
    );
    let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let output = run_ok(&mut tool(target, class, arguments.trim()), b"")?;
    let processed = format!("Processed a total of {count} messages");
    ensure!(
        output.all().contains(&processed),
        "console consumer: {}",
        output.all()
    );
    Ok(output.stdout)
}

fn lines(prefix: &str, count: usize) -> String {
    (0..count)
        .map(|index| format!("{prefix}-{index}\n"))
        .collect()
}

fn metadata(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 3")?;
    let listed = topics_ok(target, "--list")?;
    ensure!(
        listed.lines().any(|line| line == topic),
        "not listed:\n{listed}"
    );
    let described = topics_ok(target, &format!("--describe --topic {topic}"))?;
    for part in [
        "PartitionCount: 3",
        "ReplicationFactor: 1",
        "Partition: 2",
        "Leader: ",
        "Isr: ",
    ] {
        ensure!(described.contains(part), "no '{part}' in:\n{described}");
    }
    let under_replicated = topics_ok(target, "--describe --under-replicated-partitions")?;
    ensure!(!under_replicated.contains(topic), "{under_replicated}");
    delete(target, topic)
}

fn topic_admin(target: &Target<'_>, topic: &str) -> Result<()> {
    let created = create(
        target,
        topic,
        "--partitions 2 --config retention.ms=3600000",
    )?;
    ensure!(
        created.contains(&format!("Created topic {topic}.")),
        "{created}"
    );
    let again = topics(target, &format!("--create --topic {topic} --partitions 2"))?;
    ensure!(!again.status.success(), "the same name was created twice");
    ensure!(again.all().contains("already exists"), "{}", again.all());
    topics_ok(target, &format!("--alter --topic {topic} --partitions 5"))?;
    let fewer = topics(target, &format!("--alter --topic {topic} --partitions 3"))?;
    ensure!(
        fewer.all().contains("InvalidPartitionsException"),
        "{}",
        fewer.all()
    );
    let described = topics_ok(target, &format!("--describe --topic {topic}"))?;
    ensure!(described.contains("PartitionCount: 5"), "{described}");
    ensure!(described.contains("retention.ms=3600000"), "{described}");
    delete(target, topic)?;
    let listed = topics_ok(target, "--list")?;
    ensure!(
        !listed.lines().any(|line| line == topic),
        "still listed:\n{listed}"
    );
    Ok(())
}

fn produce_consume(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 1")?;
    let with_headers = "--reader-property parse.key=true --reader-property key.separator=: \
        --reader-property parse.headers=true --reader-property headers.delimiter=|";
    let input = "h:1,h:2|k1:v1\na:b|ключ:värde ✓\n";
    produce(target, topic, with_headers, input)?;
    produce(target, topic, "", &lines("line", 1000))?;
    let print = "--formatter-property print.key=true --formatter-property print.headers=true \
        --formatter-property print.offset=true";
    let found = consume(target, topic, "earliest", 1002, print)?;
    let found: Vec<&str> = found.lines().collect();
    ensure!(found[0] == "Offset:0\th:1,h:2\tk1\tv1", "{}", found[0]);
    ensure!(found[1] == "Offset:1\ta:b\tключ\tvärde ✓", "{}", found[1]);
    ensure!(
        found[1001] == "Offset:1001\tNO_HEADERS\tnull\tline-999",
        "{}",
        found[1001]
    );
    let middle = consume(target, topic, "500", 2, "")?;
    ensure!(
        middle == "line-498\nline-499\n",
        "from offset 500: {middle}"
    );
    delete(target, topic)
}

fn codecs(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 1")?;
    let mut expected = String::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let input = lines(&format!("{codec}{}", "x".repeat(500)), 100);
        produce(
            target,
            topic,
            &format!("--compression-codec {codec}"),
            &input,
        )?;
        expected.push_str(&input);
    }
    let found = consume(target, topic, "earliest", 500, "")?;
    ensure!(found == expected, "what was read differs");
    delete(target, topic)
}

fn offsets(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 1")?;
    let base_ms = crate::rust_client::an_hour_ago_ms();
    for index in 0..10 {
        // The console producer cannot set timestamps.
        let mut record = crate::rust_client::value_record(b"x");
        record.timestamp_ms = Some(base_ms + index * 1000);
        crate::rust_client::produce(target.bootstrap, topic, 0, &[record], &[])?;
    }
    for (time, expected) in [
        ("earliest".to_owned(), "0"),
        ("latest".to_owned(), "10"),
        ("max-timestamp".to_owned(), "9"),
        ((base_ms + 4500).to_string(), "5"),
    ] {
        let arguments = format!("--topic {topic} --time {time}");
        let mut command = tool(target, "org.apache.kafka.tools.GetOffsetShell", &arguments);
        let found = run_ok(&mut command, b"")?.stdout;
        ensure!(
            found.trim() == format!("{topic}:0:{expected}"),
            "{time}: {found}"
        );
    }
    delete(target, topic)
}

fn idempotent(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 1")?;
    let input = lines("i", 5000);
    let arguments = "--command-property enable.idempotence=true --request-required-acks all \
        --batch-size 2000";
    produce(target, topic, arguments, &input)?;
    let found = consume(target, topic, "earliest", 5000, "")?;
    ensure!(found == input, "number or order differs");
    delete(target, topic)
}

fn configs(target: &Target<'_>, topic: &str) -> Result<()> {
    create(
        target,
        topic,
        "--partitions 1 --config retention.ms=3600000",
    )?;
    let describe = |more: &str| {
        let arguments = format!("--describe --entity-type topics --entity-name {topic}{more}");
        Ok::<_, anyhow::Error>(config_tool(target, &arguments)?.all())
    };
    let set = describe("")?;
    ensure!(
        set.contains("retention.ms=3600000") && set.contains("DYNAMIC_TOPIC_CONFIG"),
        "{set}"
    );
    let all = describe(" --all")?;
    ensure!(
        all.contains("DEFAULT_CONFIG:log.segment.bytes=1073741824"),
        "{all}"
    );
    let alter = |change: &str| {
        let entity = format!("--alter --entity-type topics --entity-name {topic}");
        config_tool(target, &format!("{entity} {change}"))
    };
    let changed = alter("--add-config max.message.bytes=2000000 --delete-config retention.ms")?;
    ensure!(changed.status.success(), "{}", changed.all());
    let set = describe("")?;
    ensure!(
        set.contains("max.message.bytes=2000000") && !set.contains("retention.ms="),
        "{set}"
    );
    let bad = alter("--add-config retention.ms=soon")?;
    ensure!(!bad.status.success() && bad.all().contains("InvalidConfigurationException"));
    let brokers = config_tool(target, "--describe --entity-type brokers --all")?.all();
    ensure!(brokers.contains("node.id="), "{brokers}");
    delete(target, topic)
}

fn large(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 1")?;
    let value = "0123456789".repeat(90_000);
    let input = format!("{value}\n{value}\n");
    produce(target, topic, "", &input)?;
    let small = "--command-property max.partition.fetch.bytes=1000";
    let found = consume(target, topic, "earliest", 2, small)?;
    ensure!(found == input, "what was read differs");
    let refused = "--alter --entity-type topics --entity-name";
    let limit = format!("{refused} {topic} --add-config max.message.bytes=10000");
    ensure!(config_tool(target, &limit)?.status.success());
    let arguments = format!("--topic {topic}");
    let class = "org.apache.kafka.tools.ConsoleProducer";
    let output = run(
        &mut tool(target, class, &arguments),
        &value.as_bytes()[..20_000],
    )?;
    ensure!(
        output.all().contains("RecordTooLargeException"),
        "{}",
        output.all()
    );
    delete(target, topic)
}

fn acks(target: &Target<'_>, topic: &str) -> Result<()> {
    create(target, topic, "--partitions 1")?;
    let mut expected = String::new();
    for level in ["0", "1", "all"] {
        let input = lines(level, 100);
        produce(
            target,
            topic,
            &format!("--request-required-acks {level}"),
            &input,
        )?;
        expected.push_str(&input);
        // Without acknowledgement the next producer may overtake: wait until it is there.
        crate::rust_client::consume(target.bootstrap, topic, 0, 0, expected.lines().count())?;
    }
    let found = consume(target, topic, "earliest", 300, "")?;
    ensure!(found == expected, "what was read differs");
    delete(target, topic)
}

fn errors(target: &Target<'_>, topic: &str) -> Result<()> {
    let unknown = topics(target, &format!("--describe --topic {topic}"))?;
    ensure!(!unknown.status.success(), "an unknown topic was described");
    ensure!(
        unknown.all().contains("does not exist as expected"),
        "{}",
        unknown.all()
    );
    let deleted = topics(target, &format!("--delete --topic {topic}"))?;
    ensure!(!deleted.status.success(), "an unknown topic was deleted");
    let bad_name = topics(
        target,
        &format!("--create --topic {topic}/x --partitions 1"),
    )?;
    ensure!(
        bad_name.all().contains("InvalidTopicException"),
        "{}",
        bad_name.all()
    );
    Ok(())
}
