//! What the durability classes promise, on a real file system that loses its power and on a disk
//! whose syncs fail. `docs/durability.md` states it; real clients check it.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::power::{self, Disk};
use ottla_compat_tests::rust_client::{self as client, Producer};
use rand::{Rng as _, SeedableRng as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CUTS: u32 = 20;
const PARTITIONS: i32 = 3;
/// Of class `interval` in these tests.
const INTERVAL: Duration = Duration::from_millis(300);
/// A flush may wait for its turn and for the disk; a busy machine is slow at both.
const FLUSH_LIMIT: Duration = Duration::from_millis(1_500);

fn settings(folder: &Path, disk: &Disk) -> Result<Settings> {
    Ok(Settings::new(folder)?
        .with("log.dirs", disk.path().join("data").display())
        .with("log.segment.bytes", 1 << 20)
        .with("ottla.durability.interval.ms", INTERVAL.as_millis()))
}

/// The power goes, and comes back; the broker that was running is gone.
fn cut(broker: Broker, disk: &mut Disk) -> Result<Settings> {
    disk.cut(Some(broker.pid()?))?;
    let settings = broker.kill()?;
    disk.restore()?;
    Ok(settings)
}

fn number(value: &[u8]) -> Result<u64> {
    Ok(std::str::from_utf8(value)?.parse()?)
}

fn numbers(bootstrap: &str, topic: &str, partition: i32) -> Result<Vec<u64>> {
    let records = client::read_all(bootstrap, topic, partition)?;
    let values = records.iter().map(|record| record.value.as_deref());
    values
        .map(|value| number(value.context("a value")?))
        .collect()
}

#[test]
fn twenty_power_cuts_lose_nothing_that_class_commit_acknowledged() -> Result<()> {
    if !power::is_possible("twenty_power_cuts_lose_nothing_that_class_commit_acknowledged") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut disk = Disk::new(folder.path())?;
    let mut broker = Broker::start(settings(folder.path(), &disk)?)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "kept", PARTITIONS, &[])?;
    let producer = Producer::patient(&bootstrap)?;
    let seed = rand::rngs::StdRng::from_os_rng().random::<u64>();
    println!("seed {seed}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let next = AtomicU64::new(0);
    let mut zeros = 0.0;
    for round in 0..CUTS {
        let stop = AtomicBool::new(false);
        let run_for = Duration::from_millis(rng.random_range(1..250));
        let known = producer.deliveries.len();
        let settings = std::thread::scope(|scope| -> Result<Settings> {
            let sender = scope.spawn(|| -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let partition = (number % PARTITIONS as u64) as i32;
                    producer.send_value("kept", partition, number.to_string().as_bytes())?;
                    std::thread::sleep(Duration::from_micros(50));
                }
                Ok(())
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            while producer.deliveries.len() == known && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(run_for);
            let settings = cut(broker, &mut disk);
            stop.store(true, Ordering::Relaxed);
            sender.join().expect("the sender does not panic")?;
            settings
        })?;
        ensure!(
            producer.deliveries.len() > known,
            "nothing was acknowledged"
        );
        broker = Broker::start(settings).with_context(|| format!("cut {round}"))?;
        // Taken before reading: the producer goes on by itself.
        let deliveries = producer.deliveries.all();
        let mut stored = Vec::new();
        for partition in 0..PARTITIONS {
            stored.push(numbers(&bootstrap, "kept", partition)?);
        }
        for delivery in &deliveries {
            let sent = number(&delivery.value)?;
            // A retry that the broker knew already: librdkafka does not learn the offset.
            let offset = match delivery.offset {
                Ok(offset) if offset < 0 => (sent / PARTITIONS as u64) as i64,
                Ok(offset) => offset,
                Err(code) => anyhow::bail!("{sent} was given up: {code}"),
            };
            let found = stored[delivery.partition as usize].get(offset as usize);
            ensure!(
                found == Some(&sent),
                "cut {round}: {sent} at {offset} was acknowledged, found {found:?}"
            );
        }
        println!("cut {round}: {} acknowledged, 0 lost", deliveries.len());
        zeros += metric(&broker, "ottla_flush_zeros_written_bytes_total")?;
    }
    println!("{zeros} bytes of zeros were written ahead");
    ensure!(zeros > 0.0, "no cut met zeros that were written ahead");
    producer.flush(Duration::from_secs(60))?;
    let stored: usize = (0..PARTITIONS)
        .map(|partition| Ok(numbers(&bootstrap, "kept", partition)?.len()))
        .sum::<Result<usize>>()?;
    let sent = next.load(Ordering::Relaxed);
    ensure!(
        stored as u64 == sent,
        "{stored} records are there of {sent} that were sent"
    );
    broker.stop()?;
    Ok(())
}

/// Produces one record after another until the power goes; when each was acknowledged.
fn acknowledged_until_cut(
    broker: Broker,
    disk: &mut Disk,
    topic: &str,
    run_for: Duration,
) -> Result<(Vec<Instant>, Instant, Settings)> {
    let bootstrap = broker.bootstrap().to_owned();
    let mut connection = ottla_compat_tests::wire::Raw::connect(&bootstrap)?;
    let mut acknowledged = Vec::new();
    let began = Instant::now();
    while began.elapsed() < run_for {
        let value = acknowledged.len().to_string();
        let batch = ottla_compat_tests::wire::record_batch(&[value.as_bytes()]);
        let answer = ottla_compat_tests::batch::produce(&mut connection, topic, &batch)?;
        ensure!(answer.error == 0, "{answer:?}");
        acknowledged.push(Instant::now());
        std::thread::sleep(Duration::from_millis(1));
    }
    let at = Instant::now();
    let settings = cut(broker, disk)?;
    Ok((acknowledged, at, settings))
}

/// Cuts the power of a topic of this class a few times; the most that was lost, as a time before
/// the cut and as a number of records.
fn losses(class: &str, settings: &[(&str, &str)], cuts: u32) -> Result<(Duration, usize)> {
    let folder = tempfile::tempdir()?;
    let mut disk = Disk::new(folder.path())?;
    let mut broker = Broker::start(self::settings(folder.path(), &disk)?)?;
    let mut most = (Duration::ZERO, 0);
    for round in 0..cuts {
        let topic = format!("topic-{round}");
        let bootstrap = broker.bootstrap().to_owned();
        let own = [("ottla.durability", class)];
        let all: Vec<_> = own.iter().chain(settings).copied().collect();
        client::create_topic(&bootstrap, &topic, 1, &all)?;
        let run_for = Duration::from_millis(2_500 + u64::from(round) * 170);
        let (acknowledged, at, after) = acknowledged_until_cut(broker, &mut disk, &topic, run_for)?;
        broker = Broker::start(after)?;
        let stored = numbers(&bootstrap, &topic, 0)?;
        let expected: Vec<u64> = (0..stored.len() as u64).collect();
        ensure!(
            stored == expected,
            "what is lost is the end, and nothing else"
        );
        ensure!(stored.len() <= acknowledged.len() + 1, "nothing is made up");
        let lost = &acknowledged[stored.len().min(acknowledged.len())..];
        let age = lost.first().map_or(Duration::ZERO, |first| at - *first);
        println!(
            "{class}, cut {round}: {} acknowledged, {} lost, the oldest {age:?} before the cut",
            acknowledged.len(),
            lost.len()
        );
        most = (most.0.max(age), most.1.max(lost.len()));
    }
    broker.stop()?;
    Ok(most)
}

#[test]
fn a_power_cut_costs_class_interval_at_most_its_interval_and_a_flush() -> Result<()> {
    if !power::is_possible("a_power_cut_costs_class_interval_at_most_its_interval_and_a_flush") {
        return Ok(());
    }
    let (age, _) = losses("interval", &[], 6)?;
    // The runs are longer than this, so that a class without any syncs would fail.
    ensure!(age < INTERVAL + FLUSH_LIMIT, "{age:?} of records were lost");
    Ok(())
}

/// The number that `/metrics` shows under this name.
fn metric(broker: &Broker, name: &str) -> Result<f64> {
    let (_, text) = broker.http_get("/metrics")?;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

/// Whichever of the broker's threads are asleep: no root is needed to see that they wake up.
#[test]
fn class_interval_syncs_in_time_when_nothing_else_happens() -> Result<()> {
    let interval = ("ottla.durability.interval.ms", "200");
    let broker = Broker::start_ours(|settings| settings.with(interval.0, interval.1))?;
    let settings = [("ottla.durability", "interval")];
    client::create_topic(broker.bootstrap(), "t", 4, &settings)?;
    for partition in 0..4 {
        let record = client::value_record(b"v");
        let before = metric(&broker, "ottla_flush_latency_seconds_count")?;
        client::produce(broker.bootstrap(), "t", partition, &[record], &[])?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while metric(&broker, "ottla_flush_latency_seconds_count")? == before {
            ensure!(
                Instant::now() < deadline,
                "no sync of partition {partition}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    broker.stop()?;
    Ok(())
}

#[test]
fn fast_producers_are_held_to_the_budget_of_their_disk() -> Result<()> {
    const LIMIT_BYTES: u64 = 4 << 20;
    const PRODUCERS: u64 = 3;
    // One request each is let in before its producer learns that the budget is spent.
    const REQUEST_BYTES: u64 = 1 << 20;
    let broker = Broker::start_ours(|settings| {
        settings
            .with("ottla.dirty.max.bytes", LIMIT_BYTES)
            .with("ottla.durability", "memory")
    })?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", PRODUCERS as i32, &[])?;
    let value = vec![b'x'; 10_000];
    let mut most = 0.0f64;
    std::thread::scope(|scope| -> Result<()> {
        let producers: Vec<_> = (0..PRODUCERS as i32)
            .map(|partition| {
                let (bootstrap, value) = (&bootstrap, &value);
                scope.spawn(move || -> Result<()> {
                    let settings = [("linger.ms", "5"), ("batch.size", "900000")];
                    let producer = Producer::new(bootstrap, &settings)?;
                    for _ in 0..4_000 {
                        producer.send_value("t", partition, value)?;
                    }
                    producer.flush(Duration::from_secs(120))?;
                    let error = producer.deliveries.first_error();
                    ensure!(error.is_none(), "a record was lost: {error:?}");
                    Ok(())
                })
            })
            .collect();
        while !producers.iter().all(|producer| producer.is_finished()) {
            most = most.max(metric(&broker, "ottla_dirty_bytes")?);
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut ended = producers.into_iter();
        ended.try_for_each(|producer| producer.join().expect("producers do not panic"))
    })?;
    let slowed = metric(&broker, "ottla_produce_slowed_total")?;
    println!("at most {most} bytes waited for the disk; {slowed} batches were slowed");
    ensure!(slowed > 0.0, "the disk was faster than three producers");
    let bound = LIMIT_BYTES + PRODUCERS * REQUEST_BYTES;
    ensure!(
        most <= bound as f64,
        "{most} bytes waited, {bound} are allowed"
    );
    broker.stop()?;
    Ok(())
}

#[test]
fn a_power_cut_costs_class_memory_only_an_end_of_the_log() -> Result<()> {
    if !power::is_possible("a_power_cut_costs_class_memory_only_an_end_of_the_log") {
        return Ok(());
    }
    let (_, lost) = losses("memory", &[], 4)?;
    // Otherwise this kernel wrote everything back at once, and the test tests nothing.
    ensure!(lost > 0, "a power cut has cost nothing");
    Ok(())
}

#[test]
fn flush_ms_and_flush_messages_bound_the_loss_of_class_memory_as_in_apache_kafka() -> Result<()> {
    let test = "flush_ms_and_flush_messages_bound_the_loss_of_class_memory_as_in_apache_kafka";
    if !power::is_possible(test) {
        return Ok(());
    }
    let (age, _) = losses("memory", &[("flush.ms", "200")], 3)?;
    ensure!(age < Duration::from_millis(200) + FLUSH_LIMIT, "{age:?}");
    let (_, lost) = losses("memory", &[("flush.messages", "1")], 3)?;
    ensure!(
        lost == 0,
        "{lost} records that were to be flushed one by one"
    );
    let (_, lost) = losses("memory", &[("flush.messages", "100")], 3)?;
    ensure!(
        lost < 100,
        "{lost} records, of which 100 are never unflushed"
    );
    Ok(())
}

#[test]
fn a_class_that_is_changed_while_records_wait_weakens_no_acknowledgement() -> Result<()> {
    let test = "a_class_that_is_changed_while_records_wait_weakens_no_acknowledgement";
    if !power::is_possible(test) {
        return Ok(());
    }
    let (age, lost) = losses("commit", &[], 3)?;
    ensure!(lost == 0, "{lost} records, {age:?} old");
    let folder = tempfile::tempdir()?;
    let mut disk = Disk::new(folder.path())?;
    let broker = Broker::start(settings(folder.path(), &disk)?)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[("ottla.durability", "memory")])?;
    let produce = |from: usize, to: usize| -> Result<()> {
        let mut connection = ottla_compat_tests::wire::Raw::connect(&bootstrap)?;
        for value in from..to {
            let value = value.to_string();
            let batch = ottla_compat_tests::wire::record_batch(&[value.as_bytes()]);
            let answer = ottla_compat_tests::batch::produce(&mut connection, "t", &batch)?;
            ensure!(answer.error == 0, "{answer:?}");
        }
        Ok(())
    };
    produce(0, 50)?;
    client::alter_topic(&bootstrap, "t", &[("ottla.durability", "commit")])?;
    // The first one that is acknowledged in the new class has everything before it on the disk.
    produce(50, 60)?;
    let settings = cut(broker, &mut disk)?;
    let broker = Broker::start(settings)?;
    let stored = numbers(&bootstrap, "t", 0)?;
    ensure!(stored == (0..60).collect::<Vec<_>>(), "{stored:?}");
    broker.stop()?;
    Ok(())
}

/// Makes every sync of the process's segments fail from now on; until it is dropped.
struct FailedSyncs(std::process::Child);

impl FailedSyncs {
    fn begin(broker: &Broker, segment: &Path) -> Result<FailedSyncs> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync"]);
        strace
            .args(["-e", "inject=fdatasync:error=EIO", "-P"])
            .arg(segment);
        strace.arg("-p").arg(broker.pid()?.to_string());
        strace
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = strace
            .spawn()
            .context("strace is needed for failing syncs")?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(FailedSyncs(child))
    }
}

impl Drop for FailedSyncs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_failed_sync_of_the_real_disk_acknowledges_nothing_and_keeps_what_was() -> Result<()> {
    let test = "a_failed_sync_of_the_real_disk_acknowledges_nothing_and_keeps_what_was";
    if !power::can_inject(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(Settings::new(folder.path())?)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let mut connection = ottla_compat_tests::wire::Raw::connect(&bootstrap)?;
    let batch = |value: &str| ottla_compat_tests::wire::record_batch(&[value.as_bytes()]);
    for value in 0..20 {
        let batch = batch(&value.to_string());
        let answer = ottla_compat_tests::batch::produce(&mut connection, "t", &batch)?;
        ensure!(answer.error == 0, "{answer:?}");
    }
    let segment = broker
        .settings()
        .data()
        .join("t-0/00000000000000000000.log");
    ensure!(segment.exists(), "no segment at {}", segment.display());
    let failing = FailedSyncs::begin(&broker, &segment)?;
    let mut refused = 0;
    for value in 20..25 {
        let sent = batch(&value.to_string());
        // The broker may also end the connection, or itself: all that counts is that nothing
        // is acknowledged.
        match ottla_compat_tests::batch::produce(&mut connection, "t", &sent) {
            Ok(answer) => {
                ensure!(
                    answer.error != 0,
                    "acknowledged after a failed sync: {answer:?}"
                );
                refused += 1;
            }
            Err(_) => break,
        }
    }
    drop(failing);
    println!("{refused} batches were refused with an error");
    let settings = broker.kill()?;
    let broker = Broker::start(settings)?;
    let stored = numbers(&bootstrap, "t", 0)?;
    ensure!(
        stored[..20] == (0..20).collect::<Vec<_>>()[..],
        "{stored:?}"
    );
    client::produce(&bootstrap, "t", 0, &[client::value_record(b"99")], &[])?;
    broker.stop()?;
    Ok(())
}
