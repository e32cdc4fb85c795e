//! Data directories change hands between Apache Kafka 4.3 and us, and nobody's clients notice.
//!
//! One node of Kafka gets everything that lies on its disk in the end: several segments, every
//! codec, an idempotent producer, transactions that were committed and aborted, a compacted topic,
//! deleted records, committed offsets. It is stopped, or killed, `ottla storage adopt` takes its
//! directory, and our server answers what Kafka answered, with the leader epochs of all of Kafka's
//! starts; what Kafka had made from the log is damaged before. The other way round a folder of ours
//! is put into Kafka's directory.
//!
//! Needs Java and Kafka's jars (`scripts/kafka-jars`); says loudly when they are missing.

use anyhow::{Context as _, Result, bail, ensure};
use ottla_compat_tests::broker::{Broker, Settings, ottla_binary};
use ottla_compat_tests::process::{Output, cache, is_installed, run};
use ottla_compat_tests::rust_client::{self as client, Producer, Record};
use ottla_compat_tests::wire::{Raw, header};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const COMMITTED: [(&str, &str); 1] = [("isolation.level", "read_committed")];
const GROUP: &str = "readers";
/// Topic and partition of everything that is compared.
const PARTITIONS: [(&str, i32); 5] = [
    ("many", 0),
    ("many", 1),
    ("keyed", 0),
    ("tx", 0),
    ("codecs", 0),
];

fn is_missing() -> Result<bool> {
    if is_installed("java") && cache().join("kafka/cp").is_dir() {
        return Ok(false);
    }
    let allowed = std::env::var("OTTLA_COMPAT_ALLOW_MISSING").unwrap_or_default();
    let ci = std::env::var_os("CI").is_some_and(|ci| ci != "false" && !ci.is_empty());
    ensure!(
        !ci || allowed.contains("java"),
        "no Java or no jars: scripts/kafka-jars"
    );
    eprintln!("NOT CHECKED: directories of Apache Kafka: no Java or no jars: scripts/kafka-jars");
    Ok(true)
}

/// What a client can see of a broker's partitions.
#[derive(Debug, PartialEq)]
struct Seen {
    watermarks: BTreeMap<(&'static str, i32), (i64, i64)>,
    records: BTreeMap<(&'static str, i32), Vec<Record>>,
    committed: Vec<Record>,
    offsets: Vec<i64>,
}

fn look(bootstrap: &str, partitions: &[(&'static str, i32)]) -> Result<Seen> {
    let (mut watermarks, mut records) = (BTreeMap::new(), BTreeMap::new());
    for &(topic, partition) in partitions {
        let at = (topic, partition);
        watermarks.insert(at, client::watermarks(bootstrap, topic, partition)?);
        records.insert(at, client::read_to_end(bootstrap, topic, partition, &[])?);
    }
    let has_transactions = partitions.contains(&("tx", 0));
    let committed = match has_transactions {
        true => client::read_to_end(bootstrap, "tx", 0, &COMMITTED)?,
        false => Vec::new(),
    };
    let consumer = client::consumer(bootstrap, &[("group.id", GROUP)])?;
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition("many", 0);
    wanted.add_partition("many", 1);
    let committed_now = consumer.committed_offsets(wanted, LIMIT)?;
    let elements = committed_now.elements();
    let offsets = elements.iter().map(|element| match element.offset() {
        Offset::Offset(offset) => offset,
        _ => -1,
    });
    Ok(Seen {
        watermarks,
        records,
        committed,
        offsets: offsets.collect(),
    })
}

fn record(number: u32, size: usize) -> Record {
    Record {
        offset: -1,
        key: Some(format!("key {number}").into_bytes()),
        value: Some(vec![b'a' + (number % 26) as u8; size]),
        headers: vec![("number".to_owned(), Some(number.to_string().into_bytes()))],
        timestamp_ms: Some(client::an_hour_ago_ms() + i64::from(number)),
    }
}

fn produce(
    bootstrap: &str,
    (topic, partition): (&str, i32),
    settings: &[(&str, &str)],
    records: impl Iterator<Item = Record>,
) -> Result<()> {
    let producer = Producer::new(bootstrap, settings)?;
    for record in records {
        producer.send(topic, partition, &record)?;
    }
    producer.flush(LIMIT)?;
    ensure!(
        producer.deliveries.first_error().is_none(),
        "{topic}: {:?}",
        producer.deliveries.first_error()
    );
    Ok(())
}

/// Everything but transactions, which only one of the two serves.
fn fill(bootstrap: &str) -> Result<()> {
    client::create_topic(bootstrap, "many", 2, &[("segment.bytes", "1048576")])?;
    let idempotent = [("enable.idempotence", "true"), ("batch.size", "20000")];
    produce(
        bootstrap,
        ("many", 0),
        &idempotent,
        (0..4_000).map(|n| record(n, 900)),
    )?;
    produce(
        bootstrap,
        ("many", 1),
        &idempotent,
        (0..2_000).map(|n| record(n, 900)),
    )?;
    delete_records(bootstrap, "many", 1, 1_500)?;

    client::create_topic(bootstrap, "codecs", 1, &[])?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let settings = [("compression.type", codec), ("enable.idempotence", "true")];
        produce(
            bootstrap,
            ("codecs", 0),
            &settings,
            (0..200).map(|n| record(n, 300)),
        )?;
    }

    let consumer = client::consumer(bootstrap, &[("group.id", GROUP)])?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("many", 0, Offset::Offset(1_234))?;
    offsets.add_partition_offset("many", 1, Offset::Offset(1_777))?;
    consumer.commit(&offsets, CommitMode::Sync)?;
    Ok(())
}

/// Forty rounds over the same keys, until compaction has taken most of them.
fn fill_compacted(bootstrap: &str, compact: impl Fn() -> Result<()>) -> Result<()> {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
    ];
    client::create_topic(bootstrap, "keyed", 1, &settings)?;
    let keyed = |n: u32| Record {
        key: Some(format!("key {}", n % 50).into_bytes()),
        ..record(n, 900)
    };
    let idempotent = [("enable.idempotence", "true"), ("batch.size", "20000")];
    produce(bootstrap, ("keyed", 0), &idempotent, (0..4_000).map(keyed))?;
    compact()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = client::read_to_end(bootstrap, "keyed", 0, &[])?.len();
        if left < 2_500 {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{left} records are not compacted"
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn fill_transactions(bootstrap: &str) -> Result<()> {
    client::create_topic(bootstrap, "tx", 1, &[])?;
    let settings = [("transactional.id", "t"), ("batch.size", "20000")];
    let producer: BaseProducer = client::config(bootstrap, &settings).create()?;
    producer.init_transactions(LIMIT)?;
    for round in 0..6 {
        producer.begin_transaction()?;
        for number in 0..20 {
            let value = format!("{number} of {round}");
            let record = BaseRecord::<(), _>::to("tx").partition(0).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(LIMIT)?;
        match round % 3 {
            1 => producer.abort_transaction(LIMIT)?,
            _ => producer.commit_transaction(LIMIT)?,
        }
    }
    Ok(())
}

fn delete_records(bootstrap: &str, topic: &str, partition: i32, before: i64) -> Result<()> {
    let request = header(21, 0, 1)
        .i32(1)
        .string(topic)
        .i32(1)
        .i32(partition)
        .i64(before);
    let answer = Raw::connect(bootstrap)?.call(&request.i32(10_000).framed())?;
    let (low, _) = client::watermarks(bootstrap, topic, partition)?;
    ensure!(low == before, "records are not deleted: {answer:?}");
    Ok(())
}

fn ottla(arguments: &[&str], dir: &Path) -> Result<Output> {
    ottla_on(arguments, &[dir.to_owned()])
}

fn ottla_on(arguments: &[&str], dirs: &[PathBuf]) -> Result<Output> {
    run(
        Command::new(ottla_binary()?).args(arguments).args(dirs),
        b"",
    )
}

/// What the newest producer snapshot of a partition says.
fn producers(dir: &Path) -> Result<Vec<serde_json::Value>> {
    let newest = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = newest
        .filter(|path| path.extension().is_some_and(|end| end == "snapshot"))
        .max();
    let said = ottla(
        &["storage", "dump", "-o", "ndjson"],
        &newest.context("no snapshot")?,
    )?;
    ensure!(said.status.success(), "{}", said.all());
    let mut lines = Vec::new();
    for line in said.stdout.lines() {
        let mut producer: serde_json::Value = serde_json::from_str(line)?;
        // Kafka keeps one batch for each producer, we five; files have other names.
        let fields = producer.as_object_mut().context("an object")?;
        fields.retain(|name, _| name != "batches" && name != "file");
        lines.push(producer);
    }
    Ok(lines)
}

fn kafka_properties() -> Vec<(String, String)> {
    let pairs = [
        ("log.cleaner.backoff.ms", "200"),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "2"),
        ("log.segment.delete.delay.ms", "100"),
        // Else a Kafka that is killed forgets for a minute which records were deleted.
        ("log.flush.start.offset.checkpoint.interval.ms", "200"),
        ("log.initial.task.delay.ms", "500"),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
}

/// Where a partition lies.
fn folder_of(dirs: &[PathBuf], name: &str) -> Result<PathBuf> {
    let mut folders = dirs.iter().map(|dir| dir.join(name));
    folders
        .find(|folder| folder.exists())
        .with_context(|| format!("{name} is in none of {dirs:?}"))
}

fn topic_ids(dirs: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut ids = BTreeMap::new();
    for (topic, partition) in PARTITIONS {
        let path = folder_of(dirs, &format!("{topic}-{partition}"))?.join("partition.metadata");
        ids.insert(topic.to_owned(), std::fs::read_to_string(path)?);
    }
    Ok(ids)
}

/// Leader epochs and the offsets where they began, as the file in a partition's folder has them.
fn epochs(dir: &Path) -> Result<Vec<(i32, i64)>> {
    let text = std::fs::read_to_string(dir.join("leader-epoch-checkpoint"))?;
    let entries = text.lines().skip(2).map(|line| {
        let (epoch, offset) = line.split_once(' ').context("two numbers")?;
        Ok((epoch.parse()?, offset.parse()?))
    });
    entries.collect()
}

/// Where each epoch ends, as OffsetForLeaderEpoch tells: what consumers find truncation by.
fn told_epoch_end(bootstrap: &str, (topic, partition): (&str, i32), epoch: i32) -> Result<i64> {
    let request = header(23, 3, 1)
        .i32(-1)
        .i32(1)
        .string(topic)
        .i32(1)
        .i32(partition)
        .i32(-1)
        .i32(epoch);
    let answer = Raw::connect(bootstrap)?.call(&request.framed())?;
    // The last field of the only partition.
    let end = answer.last_chunk::<8>().context("an offset")?;
    Ok(i64::from_be_bytes(*end))
}

/// What can be made again from the log is lost or wrong.
fn damage_what_is_derived(partition: &Path) -> Result<()> {
    let mut damaged = 0;
    for entry in std::fs::read_dir(partition)? {
        let path = entry?.path();
        match path.extension().and_then(|end| end.to_str()) {
            Some("index") => std::fs::write(&path, [0x7f; 64])?,
            Some("timeindex") => std::fs::remove_file(&path)?,
            Some("snapshot") => std::fs::write(&path, b"not a snapshot")?,
            _ => continue,
        }
        damaged += 1;
    }
    ensure!(damaged > 6, "{damaged} files in {}", partition.display());
    Ok(())
}

/// Kafka writes, is stopped or killed, and we take over in the same place and on the same port.
fn hand_over(killed: bool, more_dirs: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut settings = Settings::new(folder.path())?;
    let mut dirs = vec![settings.data()];
    dirs.extend(more_dirs.iter().map(|name| folder.path().join(name)));
    let mut properties = kafka_properties();
    if !more_dirs.is_empty() {
        let paths: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        properties.push(("log.dirs".to_owned(), paths.join(",")));
        settings = settings.with("log.dirs", paths.join(","));
    }
    let kafka = Broker::start_apache_kafka_in(settings.clone(), &properties)?;
    let bootstrap = kafka.bootstrap().to_owned();
    fill(&bootstrap)?;
    fill_compacted(&bootstrap, || Ok(()))?;
    // Each start has an epoch of its own.
    let _ = kafka.stop();
    let kafka = Broker::start_apache_kafka_in(settings.clone(), &properties)?;
    fill_transactions(&bootstrap)?;
    produce(
        &bootstrap,
        ("many", 0),
        &[("enable.idempotence", "true")],
        (4_000..4_050).map(|n| record(n, 900)),
    )?;
    let going_on = Producer::new(&bootstrap, &[("enable.idempotence", "true")])?;
    going_on.send("codecs", 0, &record(1, 10))?;
    going_on.flush(LIMIT)?;
    let before = look(&bootstrap, &PARTITIONS)?;
    ensure!(
        before.committed.len() == 80 && before.offsets == [1_234, 1_777],
        "{before:?}"
    );
    let held = ottla_on(&["storage", "adopt"], &dirs)?;
    ensure!(
        held.status.code() == Some(4) && held.stderr.contains("in use"),
        "{}",
        held.all()
    );
    let states = match killed {
        true => {
            kafka.kill()?;
            None
        }
        false => {
            // 143: ended by the signal, after a clean shutdown.
            let _ = kafka.stop();
            for dir in &dirs {
                let marker = dir.join(".kafka_cleanshutdown");
                ensure!(marker.exists(), "Kafka did not stop cleanly");
            }
            Some(producers(&folder_of(&dirs, "codecs-0")?)?)
        }
    };
    let ids = topic_ids(&dirs)?;
    let many = folder_of(&dirs, "many-0")?;
    let kafkas_epochs = epochs(&many)?;
    ensure!(kafkas_epochs.len() > 1, "{kafkas_epochs:?}");
    damage_what_is_derived(&many)?;
    adopt(&dirs)?;
    ensure!(epochs(&many)? == kafkas_epochs, "{:?}", epochs(&many)?);
    if let Some(states) = states {
        ensure!(!states.is_empty());
        ensure!(
            producers(&folder_of(&dirs, "codecs-0")?)? == states,
            "producer states differ"
        );
    }

    let ours = Broker::start(settings.clone())?;
    ensure!(ours.bootstrap() == bootstrap);
    let after = look(&bootstrap, &PARTITIONS)?;
    compare(&before, &after)?;
    ensure!(topic_ids(&dirs)? == ids, "topic ids changed");
    for pair in kafkas_epochs.windows(2) {
        let end = told_epoch_end(&bootstrap, ("many", 0), pair[0].0)?;
        ensure!(end == pair[1].1, "{end} {kafkas_epochs:?}");
    }
    // The same producer goes on with its next sequence number, and a new one gets a new id.
    going_on.send("codecs", 0, &record(2, 10))?;
    going_on.flush(LIMIT)?;
    ensure!(
        going_on.deliveries.first_error().is_none(),
        "{:?}",
        going_on.deliveries.first_error()
    );
    produce(
        &bootstrap,
        ("codecs", 0),
        &[("enable.idempotence", "true")],
        (0..5).map(|n| record(n, 9)),
    )?;
    let end = before.watermarks[&("codecs", 0)].1;
    ensure!(client::watermarks(&bootstrap, "codecs", 0)?.1 == end + 6);
    let settings = ours.stop()?;
    let again = Broker::start(settings)?;
    ensure!(client::watermarks(again.bootstrap(), "codecs", 0)?.1 == end + 6);
    Ok(())
}

/// Takes over the directories of a node that has ended; the first has its metadata.
fn adopt(dirs: &[PathBuf]) -> Result<()> {
    let dry = ottla_on(&["storage", "adopt", "--dry-run"], dirs)?;
    let is_stamped = |dir: &PathBuf| dir.join("ottla.format").exists();
    ensure!(
        dry.status.success() && !dirs.iter().any(is_stamped),
        "{}",
        dry.all()
    );
    if let [first, second] = dirs {
        adopt_in_part(first, second)?;
    }
    let adopted = ottla_on(&["storage", "adopt"], dirs)?;
    ensure!(adopted.status.success(), "{}", adopted.all());
    let again = ottla_on(&["storage", "adopt"], dirs)?;
    ensure!(again.status.code() == Some(4), "{}", again.all());
    for dir in dirs {
        let check = ottla(&["storage", "check"], dir)?;
        ensure!(check.status.success(), "{}", check.all());
    }
    Ok(())
}

/// Neither directory is taken over alone, and a call that was interrupted is in nobody's way.
fn adopt_in_part(first: &Path, second: &Path) -> Result<()> {
    let alone = ottla(&["storage", "adopt"], first)?;
    ensure!(
        alone.status.code() == Some(1) && alone.stderr.contains("name all of log.dirs"),
        "{}",
        alone.all()
    );
    let alone = ottla(&["storage", "adopt"], second)?;
    ensure!(
        alone.status.code() == Some(3) && alone.stderr.contains("__cluster_metadata-0"),
        "{}",
        alone.all()
    );
    ensure!(!first.join("ottla.format").exists());
    std::fs::write(second.join("ottla.format"), "version=1\n")?;
    Ok(())
}

fn compare(before: &Seen, after: &Seen) -> Result<()> {
    ensure!(
        before.watermarks == after.watermarks,
        "{:?}\n{:?}",
        before.watermarks,
        after.watermarks
    );
    for (partition, records) in &before.records {
        let now = &after.records[partition];
        ensure!(
            records.len() == now.len(),
            "{partition:?}: {} {}",
            records.len(),
            now.len()
        );
        for (was, is) in records.iter().zip(now) {
            ensure!(was == is, "{partition:?}: {was:?}\n{is:?}");
        }
    }
    ensure!(
        before.committed == after.committed,
        "read_committed differs"
    );
    ensure!(
        before.offsets == after.offsets,
        "{:?} {:?}",
        before.offsets,
        after.offsets
    );
    Ok(())
}

#[test]
fn a_directory_that_kafka_left_cleanly_is_adopted_with_everything_in_it() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    hand_over(false, &[])
}

#[test]
fn a_directory_of_a_kafka_that_was_killed_is_adopted_with_everything_in_it() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    hand_over(true, &[])
}

#[test]
fn a_node_of_two_log_directories_is_adopted_with_both() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    hand_over(false, &["second"])
}

#[test]
fn partitions_that_we_wrote_are_served_by_kafka() -> Result<()> {
    if is_missing()? {
        return Ok(());
    }
    serve_by_kafka(false)
}

#[test]
fn partitions_of_a_broker_of_ours_that_was_killed_are_recovered_and_served_by_kafka() -> Result<()>
{
    if is_missing()? {
        return Ok(());
    }
    serve_by_kafka(true)
}

/// How many zeros a file ends with.
fn zeros_at_the_end(file: &Path) -> Result<usize> {
    let bytes = std::fs::read(file)?;
    Ok(bytes.iter().rev().take_while(|byte| **byte == 0).count())
}

/// The folders of our partitions are put in the place of Kafka's.
fn serve_by_kafka(killed: bool) -> Result<()> {
    let partitions = [("many", 0), ("many", 1), ("keyed", 0), ("codecs", 0)];
    let ours = Broker::start_ours(|settings| settings.with("log.cleaner.backoff.ms", 200))?;
    fill(ours.bootstrap())?;
    fill_compacted(ours.bootstrap(), || {
        let (status, body) = post(&ours, "/admin/topics/keyed/compact")?;
        ensure!(status == 202, "{status} {body}");
        Ok(())
    })?;
    // One by one, so that zeros are written ahead of their syncs.
    for number in 0..30 {
        let one = std::iter::once(record(number, 5_000));
        produce(ours.bootstrap(), ("codecs", 0), &[], one)?;
    }
    let mut before = look(ours.bootstrap(), &partitions)?;
    let source = tempfile::tempdir()?;
    let from = source.path().join("ours");
    let data = ours.settings().data();
    // The folder goes with the broker: it is copied while it is stopped, and still there.
    let (pid, settings) = (ours.pid()?, ours.settings().clone());
    let last = "codecs-0/00000000000000000000.log";
    match killed {
        false => {
            terminate(pid)?;
            wait_for_marker(&data)?;
            ensure!(zeros_at_the_end(&data.join(last))? < 100);
        }
        true => {
            run(Command::new("kill").args(["-9", &pid.to_string()]), b"")?;
            ensure!(zeros_at_the_end(&data.join(last))? > 4_000);
        }
    }
    copy(&data, &from)?;
    drop((ours, settings));

    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let kafka = Broker::start_apache_kafka_in(settings.clone(), &kafka_properties())?;
    let bootstrap = kafka.bootstrap().to_owned();
    client::create_topic(&bootstrap, "many", 2, &[])?;
    client::create_topic(&bootstrap, "keyed", 1, &[("cleanup.policy", "compact")])?;
    client::create_topic(&bootstrap, "codecs", 1, &[])?;
    let _ = kafka.stop();
    let data = settings.data();
    for (topic, partition) in partitions {
        let name = format!("{topic}-{partition}");
        let id = std::fs::read(data.join(&name).join("partition.metadata"))?;
        std::fs::remove_dir_all(data.join(&name))?;
        copy(&from.join(&name), &data.join(&name))?;
        std::fs::write(data.join(&name).join("partition.metadata"), id)?;
    }
    let start = "log-start-offset-checkpoint";
    std::fs::copy(from.join(start), data.join(start))?;
    if killed {
        std::fs::remove_file(data.join(".kafka_cleanshutdown"))?;
    }
    let kafka = Broker::start_apache_kafka_in(settings.clone(), &kafka_properties())?;
    let after = look(&bootstrap, &partitions)?;
    // Its groups' log is another one.
    before.offsets.clone_from(&after.offsets);
    compare(&before, &after)?;
    // Not idempotent: producer ids are the cluster's, and Kafka's next one may be in our log.
    produce(
        &bootstrap,
        ("many", 0),
        &[("enable.idempotence", "false")],
        (0..5).map(|n| record(n, 9)),
    )?;
    ensure!(client::read_to_end(&bootstrap, "many", 0, &[])?.len() == 4_005);
    let _ = kafka.stop();
    ensure!(zeros_at_the_end(&data.join(last))? < 100);
    let said = settings.log_text();
    for word in ["Corrupt", "corrupt", "Found invalid"] {
        ensure!(killed || !said.contains(word), "{said}");
    }
    Ok(())
}

fn post(broker: &Broker, path: &str) -> Result<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", broker.settings().http_port))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("no status")?, answer))
}

fn terminate(pid: u32) -> Result<()> {
    let said = run(Command::new("kill").arg(pid.to_string()), b"")?;
    ensure!(said.status.success(), "{}", said.all());
    Ok(())
}

fn wait_for_marker(data: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !data.join(".kafka_cleanshutdown").exists() {
        if Instant::now() > deadline {
            bail!("no clean shutdown");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let said = run(Command::new("cp").arg("-r").arg(from).arg(to), b"")?;
    ensure!(said.status.success(), "{}", said.all());
    Ok(())
}
