//! Ten thousand partitions on one broker cost what `docs/benchmarks.md` says: memory, descriptors,
//! maps, threads and idle CPU stay small when they are there, when each was written to, and after a
//! start.
//!
//! `cargo test -p ottla-compat-tests --test density -- --nocapture` prints what was measured. Times
//! are printed and not asserted: the machine may be busy.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::rust_client::{self as client, Producer};
use ottla_compat_tests::usage::{self, Usage};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const TOPICS: usize = 100;
const PARTITIONS: i32 = 100;
const TOTAL: usize = TOPICS * PARTITIONS as usize;

const RESIDENT_BEYOND_BASE_MAX: u64 = 64 << 20;
const DESCRIPTORS_MAX: usize = 1_024;
const MAPS_MAX: usize = 2_000;
/// A broker has some two dozen threads, whatever it holds.
const THREADS_MAX: usize = 64;
/// Of a core. A broker of the release profile takes less than a tenth of this on a quiet machine.
const IDLE_CORE_MAX: f64 = 0.05;
/// Connections, listeners, the metadata log.
const DESCRIPTORS_BESIDE_FILES: usize = 512;
/// The broker closes idle files within four seconds; machines may be slow.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

fn topic(index: usize) -> String {
    format!("dense-{index:02}")
}

fn value(topic: usize, partition: i32) -> String {
    format!("{topic}/{partition}")
}

/// All of them in one request.
fn create_all(bootstrap: &str) -> Result<()> {
    let names: Vec<String> = (0..TOPICS).map(topic).collect();
    let wanted: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)))
        .collect();
    let admin = client::admin(bootstrap)?;
    let created = client::wait(admin.create_topics(&wanted, &client::options()))??;
    for result in created {
        result.map_err(|(name, code)| anyhow::anyhow!("create {name}: {code}"))?;
    }
    Ok(())
}

/// One batch to each partition; every one is acknowledged.
fn write_all(bootstrap: &str) -> Result<()> {
    let settings = [("acks", "all"), ("message.timeout.ms", "120000")];
    let producer = Producer::new(bootstrap, &settings)?;
    for index in 0..TOPICS {
        let name = topic(index);
        for partition in 0..PARTITIONS {
            producer.send_value(&name, partition, value(index, partition).as_bytes())?;
        }
    }
    producer.flush(Duration::from_secs(120))?;
    let deliveries = producer.deliveries.all();
    let failed = deliveries.iter().find(|delivery| delivery.offset.is_err());
    ensure!(failed.is_none(), "not delivered: {failed:?}");
    ensure!(deliveries.len() == TOTAL, "{} deliveries", deliveries.len());
    Ok(())
}

/// Two partitions of each topic have their first record.
fn read_sample(bootstrap: &str) -> Result<()> {
    let consumer = client::consumer(bootstrap, &[])?;
    let (mut assignment, mut wanted) = (TopicPartitionList::new(), BTreeSet::new());
    for index in 0..TOPICS {
        for partition in [index as i32, (index as i32 * 7 + 50) % PARTITIONS] {
            if wanted.insert(value(index, partition)) {
                assignment.add_partition_offset(&topic(index), partition, Offset::Beginning)?;
            }
        }
    }
    consumer.assign(&assignment)?;
    let deadline = Instant::now() + client::TIMEOUT;
    while !wanted.is_empty() {
        ensure!(Instant::now() < deadline, "not read: {wanted:?}");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let message = message.context("a sample")?;
        if message.offset() > 0 {
            continue;
        }
        let found = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        let index: usize = message.topic().trim_start_matches("dense-").parse()?;
        ensure!(
            found == value(index, message.partition()) && wanted.remove(&found),
            "{}-{} has {found}",
            message.topic(),
            message.partition()
        );
    }
    Ok(())
}

/// How many partitions have a leader, as clients are told.
fn count(bootstrap: &str) -> Result<usize> {
    let consumer = client::consumer(bootstrap, &[])?;
    let metadata = consumer.fetch_metadata(None, client::TIMEOUT)?;
    let topics = metadata.topics().iter();
    let dense = topics.filter(|topic| topic.name().starts_with("dense-"));
    let partitions = dense.flat_map(|topic| topic.partitions());
    Ok(partitions
        .filter(|partition| partition.error().is_none() && partition.leader() == 1)
        .count())
}

fn assert_small(what: &str, base: &Usage, now: &Usage) -> Result<()> {
    println!("{what}: {now}");
    let beyond = now.resident_bytes.saturating_sub(base.resident_bytes);
    ensure!(
        beyond < RESIDENT_BEYOND_BASE_MAX,
        "{what}: {beyond} bytes resident beyond the base"
    );
    ensure!(
        now.descriptors < DESCRIPTORS_MAX,
        "{what}: {} descriptors",
        now.descriptors
    );
    ensure!(now.maps < MAPS_MAX, "{what}: {} maps", now.maps);
    ensure!(now.threads < THREADS_MAX, "{what}: {} threads", now.threads);
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = work().with_context(|| what.to_owned())?;
    println!("{what}: {:?}", began.elapsed());
    Ok(done)
}

/// Started, and until `/ready` says that every partition is served.
fn start(what: &str, settings: Settings) -> Result<Broker> {
    timed(what, || {
        let broker = Broker::start(settings)?;
        let deadline = Instant::now() + client::TIMEOUT;
        while broker.http_get("/ready")?.0 != 200 {
            ensure!(Instant::now() < deadline, "not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(broker)
    })
}

/// In memory where there is such a place: a disk may need minutes to remove 60,000 small files.
fn folder() -> Result<tempfile::TempDir> {
    let in_memory = tempfile::Builder::new().tempdir_in("/dev/shm");
    Ok(in_memory.or_else(|_| tempfile::tempdir())?)
}

/// How much of a core the process takes when nobody asks it for anything.
fn idle_cpu(pid: u32) -> Result<f64> {
    let (before, began) = (usage::cpu(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let used = usage::cpu(pid)?.saturating_sub(before);
    Ok(used.as_secs_f64() / began.elapsed().as_secs_f64())
}

fn assert_idle(what: &str, pid: u32) -> Result<()> {
    // What was just done may still be written: the quietest of three looks counts.
    let mut quietest = f64::MAX;
    for _ in 0..3 {
        quietest = quietest.min(idle_cpu(pid)?);
        if quietest < IDLE_CORE_MAX {
            break;
        }
    }
    println!("{what}: {:.1} % of a core", quietest * 100.0);
    ensure!(quietest < IDLE_CORE_MAX, "{what}: {quietest} of a core");
    Ok(())
}

/// Descriptors that are written through stay open for a few seconds, as far as the budget of files
/// allows: half of the limit, which is this process's own.
fn descriptors_in_use_max() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4));
    let hard: usize = hard.context("no limit of open files")?.parse()?;
    Ok(hard / 2 + DESCRIPTORS_BESIDE_FILES)
}

/// Files that were written to are closed when nobody used them for a while.
fn wait_for_few_descriptors(pid: u32) -> Result<()> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while usage::descriptors(pid)? >= DESCRIPTORS_MAX {
        ensure!(
            Instant::now() < deadline,
            "{} descriptors {SETTLED_WITHIN:?} after the last request",
            usage::descriptors(pid)?
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn ten_thousand_partitions_are_small_when_idle_written_and_started_again() -> Result<()> {
    let folder = folder()?;
    let broker = start("start", Settings::new(folder.path())?)?;
    let bootstrap = broker.bootstrap().to_owned();
    let pid = broker.pid()?;
    let base = usage::of(pid)?;
    println!("base: {base}");

    timed("create", || create_all(&bootstrap))?;
    ensure!(count(&bootstrap)? == TOTAL);
    assert_idle("created", pid)?;
    assert_small("created", &base, &usage::of(pid)?)?;

    timed("write", || write_all(&bootstrap))?;
    let in_use = usage::of(pid)?;
    println!("written: {in_use}");
    ensure!(in_use.descriptors < descriptors_in_use_max()?);
    timed("sample", || read_sample(&bootstrap))?;
    timed("descriptors", || wait_for_few_descriptors(pid))?;
    assert_idle("written", pid)?;
    assert_small("written", &base, &usage::of(pid)?)?;

    let settings = timed("stop", || broker.stop())?;
    let broker = start("start after a stop", settings)?;
    check_again("after a stop", &base, &broker)?;
    let broker = start("start after kill -9", broker.kill()?)?;
    check_again("after kill -9", &base, &broker)
}

/// Everything is there, and as small as before.
fn check_again(what: &str, base: &Usage, broker: &Broker) -> Result<()> {
    ensure!(count(broker.bootstrap())? == TOTAL);
    timed("sample", || read_sample(broker.bootstrap()))?;
    assert_small(what, base, &usage::of(broker.pid()?)?)
}
