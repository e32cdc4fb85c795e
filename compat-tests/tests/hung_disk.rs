//! A log directory whose disk hangs: an ext4 file system on a loop device that is frozen, so that
//! writes and syncs wait in the kernel. Everybody else is served, and after the thaw nothing that
//! was acknowledged is missing. Needs root; says loudly when it may not.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::group_wire::{self, Who};
use ottla_compat_tests::power::{self, Disk};
use ottla_compat_tests::rust_client::{self as client, Producer};
use ottla_compat_tests::wire::{self, Raw};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// More than any thread of the network there is.
const PARTITIONS: i32 = 16;
const FROZEN: Duration = Duration::from_secs(8);
/// What everybody else may notice of it: the broker's patience with the disk, which is two seconds
/// at most, on a busy machine. Who is not kept apart from the disk waits as long as it is frozen.
const BOUND: Duration = Duration::from_secs(5);

/// The longest time each kind of request took.
#[derive(Default)]
struct Slowest(Mutex<BTreeMap<&'static str, (Duration, u64)>>);

impl Slowest {
    fn time<T>(&self, what: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let done = work().with_context(|| format!("{what}, after {:?}", began.elapsed()));
        let mut all = self.0.lock().expect("nobody panics with it");
        let slowest = all.entry(what).or_default();
        *slowest = (slowest.0.max(began.elapsed()), slowest.1 + 1);
        done
    }

    fn check(&self) -> Result<()> {
        for (what, (took, count)) in &*self.0.lock().expect("nobody panics with it") {
            println!("{what}: {count} times, the slowest took {took:?}");
            ensure!(*took < BOUND, "{what} took {took:?}");
        }
        Ok(())
    }
}

fn start(folder: &Path, disk: &Disk) -> Result<Broker> {
    let dirs = format!(
        "{},{}",
        folder.join("data").display(),
        disk.path().join("data").display()
    );
    Broker::start(Settings::new(folder)?.with("log.dirs", dirs))
}

/// The partitions of a topic on the disk, and the others.
fn placed(disk: &Disk, topic: &str) -> (Vec<i32>, Vec<i32>) {
    (0..PARTITIONS).partition(|index| {
        let name = format!("{topic}-{index}");
        disk.path().join("data").join(name).exists()
    })
}

/// Sends one record and waits for its answer; the offset, or the error code.
fn send(connection: &mut Raw, topic: &str, partition: i32, number: u64) -> Result<(i16, i64)> {
    let batch = wire::record_batch(&[number.to_string().as_bytes()]);
    let answer = connection.call(&wire::produce_request(topic, partition, &batch))?;
    wire::produce_result(&answer, topic)
}

fn numbers(bootstrap: &str, topic: &str, partition: i32) -> Result<Vec<u64>> {
    let records = client::read_all(bootstrap, topic, partition)?;
    let value = |record: &client::Record| -> Result<u64> {
        let value = record.value.as_deref().context("a value")?;
        Ok(std::str::from_utf8(value)?.parse()?)
    };
    records.iter().map(value).collect()
}

/// What was acknowledged, by topic and partition: the offset and what is to be there.
type Acknowledged = Mutex<Vec<(&'static str, i32, i64, u64)>>;

struct World<'a> {
    broker: &'a Broker,
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Acknowledged,
    slowest: Slowest,
}

impl World<'_> {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn send(&self, connection: &mut Raw, topic: &'static str, partition: i32) -> Result<i16> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (code, offset) = send(connection, topic, partition, number)?;
        if code == 0 {
            let mut all = self.acknowledged.lock().expect("nobody panics with it");
            all.push((topic, partition, offset, number));
        }
        Ok(code)
    }

    /// A producer and a consumer of a partition whose disk works.
    fn healthy(&self, topic: &'static str, partition: i32) -> Result<()> {
        let mut connection = Raw::connect(self.broker.bootstrap())?;
        while self.running() {
            let produce = || self.send(&mut connection, topic, partition);
            let code = self.slowest.time("a produce", produce)?;
            ensure!(code == 0, "{topic}-{partition} answered {code}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn consumer(&self, topic: &'static str, partition: i32) -> Result<()> {
        let mut from = 0;
        while self.running() {
            let consume = || client::consume(self.broker.bootstrap(), topic, partition, from, 1);
            self.slowest.time("a consume", consume)?;
            from += 1;
        }
        Ok(())
    }

    /// A producer of a partition whose disk hangs: it may be told to try again, and may wait.
    fn hung(&self, topic: &'static str, partition: i32) -> Result<u64> {
        let mut refused = 0;
        let mut connection = Raw::connect(self.broker.bootstrap())?;
        while self.running() {
            match self.send(&mut connection, topic, partition)? {
                0 => {}
                // KAFKA_STORAGE_ERROR and NOT_LEADER_OR_FOLLOWER: clients try again;
                // REQUEST_TIMED_OUT: as well.
                56 | 6 | 7 => refused += 1,
                code => anyhow::bail!("{topic}-{partition} answered {code}"),
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(refused)
    }

    /// Somebody who opens connections and asks about the broker.
    fn onlooker(&self) -> Result<()> {
        let bootstrap = self.broker.bootstrap();
        while self.running() {
            for path in ["/live", "/metrics"] {
                let (status, _) = self.slowest.time("HTTP", || self.broker.http_get(path))?;
                ensure!(status == 200, "{path}: {status}");
            }
            let rows = self
                .slowest
                .time("ApiVersions", || wire::api_versions(bootstrap))?;
            ensure!(!rows.is_empty(), "no APIs");
            let ask = || Raw::connect(bootstrap)?.call(&wire::metadata_request(9));
            self.slowest.time("Metadata", ask)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Somebody who creates topics, uses them and deletes them.
    fn admin(&self) -> Result<()> {
        let bootstrap = self.broker.bootstrap();
        let mut connection = Raw::connect(bootstrap)?;
        for round in 0.. {
            if !self.running() {
                break;
            }
            let topic = format!("new-{round}");
            let create = || client::create_topic(bootstrap, &topic, 2, &[]);
            self.slowest.time("CreateTopics", create)?;
            // Where the disk hung already the new partitions are elsewhere; right before it, not.
            let (code, _) = send(&mut connection, &topic, 0, round)?;
            ensure!(matches!(code, 0 | 56 | 7), "{topic} answered {code}");
            let delete = || client::delete_topic(bootstrap, &topic);
            self.slowest.time("DeleteTopics", delete)?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Everything acknowledged is there, where it was said to be.
    fn check(&self) -> Result<usize> {
        let acknowledged = self.acknowledged.lock().expect("nobody panics with it");
        let mut stored = BTreeMap::new();
        for (topic, partition, offset, number) in &*acknowledged {
            let there = match stored.entry((topic, partition)) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    new.insert(numbers(self.broker.bootstrap(), topic, *partition)?)
                }
            };
            let found = there.get(usize::try_from(*offset)?);
            ensure!(
                found == Some(number),
                "{topic}-{partition}: {number} at {offset} was acknowledged, found {found:?}"
            );
        }
        Ok(acknowledged.len())
    }
}

#[test]
fn a_disk_that_hangs_holds_only_its_own_partitions_and_loses_nothing() -> Result<()> {
    let test = "a_disk_that_hangs_holds_only_its_own_partitions_and_loses_nothing";
    if !power::is_possible(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let disk = Disk::new(folder.path())?;
    let broker = start(folder.path(), &disk)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "commit", PARTITIONS, &[])?;
    let memory = [("ottla.durability", "memory")];
    client::create_topic(&bootstrap, "memory", PARTITIONS, &memory)?;
    let world = World {
        broker: &broker,
        stop: AtomicBool::new(false),
        next: AtomicU64::new(0),
        acknowledged: Mutex::default(),
        slowest: Slowest::default(),
    };
    let producer = Producer::patient(&bootstrap)?;
    client::create_topic(&bootstrap, "doomed", 2, &[])?;
    thread::scope(|scope| -> Result<()> {
        let mut healthy = Vec::new();
        let mut hung = Vec::new();
        for topic in ["commit", "memory"] {
            let (on_disk, elsewhere) = placed(&disk, topic);
            ensure!(on_disk.len() == 8 && elsewhere.len() == 8, "{on_disk:?}");
            let world = &world;
            for &partition in &elsewhere[..2] {
                healthy.push(scope.spawn(move || world.healthy(topic, partition)));
                healthy.push(scope.spawn(move || world.consumer(topic, partition)));
            }
            for partition in on_disk {
                // More than one each: some wait for the lock of a partition, some for the disk.
                hung.push(scope.spawn(move || world.hung(topic, partition)));
                hung.push(scope.spawn(move || world.hung(topic, partition)));
            }
        }
        healthy.push(scope.spawn(|| world.onlooker()));
        healthy.push(scope.spawn(|| world.admin()));
        let during = frozen(&world, &disk, &producer);
        world.stop.store(true, Ordering::Relaxed);
        for one in healthy {
            one.join().expect("no thread panics")?;
        }
        let mut refused = 0;
        for one in hung {
            refused += one.join().expect("no thread panics")?;
        }
        println!("{refused} batches were refused meanwhile");
        during
    })?;
    world.slowest.check()?;
    producer.flush(Duration::from_secs(60))?;
    let error = producer.deliveries.first_error();
    ensure!(
        error.is_none(),
        "a patient producer lost a record: {error:?}"
    );
    let kept = world.check()?;
    println!("{kept} records were acknowledged, all are there");
    broker.stop()?;
    Ok(())
}

/// Freezes the disk amid the load, and thaws it.
fn frozen(world: &World<'_>, disk: &Disk, producer: &Producer) -> Result<()> {
    let (on_disk, _) = placed(disk, "commit");
    thread::sleep(Duration::from_secs(2));
    let ice = disk.freeze()?;
    let began = Instant::now();
    // A topic with a partition on each disk, and one that is born while nobody knows it.
    let bootstrap = world.broker.bootstrap();
    let delete = || client::delete_topic(bootstrap, "doomed");
    world.slowest.time("DeleteTopics", delete)?;
    let create = || client::create_topic(bootstrap, "doomed", 2, &[]);
    world.slowest.time("CreateTopics", create)?;
    while began.elapsed() < FROZEN {
        let number = world.next.fetch_add(1, Ordering::Relaxed);
        producer.send_value("commit", on_disk[0], number.to_string().as_bytes())?;
        thread::sleep(Duration::from_millis(20));
    }
    drop(ice);
    let thawed = Instant::now();
    // Everybody goes on.
    thread::sleep(Duration::from_secs(2));
    for partition in 0..2 {
        let records = client::read_all(bootstrap, "doomed", partition)?;
        ensure!(
            records.is_empty(),
            "a new topic has {} records",
            records.len()
        );
        let deleted = disk.path().join("data").join(format!("doomed-{partition}"));
        ensure!(
            !deleted.exists(),
            "a partition of the deleted topic is still there"
        );
    }
    let mut connection = Raw::connect(world.broker.bootstrap())?;
    for partition in on_disk {
        while world.send(&mut connection, "commit", partition)? != 0 {
            ensure!(thawed.elapsed() < Duration::from_secs(20), "still refused");
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Nobody writes when the disk stops: the first to notice is who creates a topic.
#[test]
fn a_disk_that_hangs_unnoticed_does_not_hold_the_metadata() -> Result<()> {
    let test = "a_disk_that_hangs_unnoticed_does_not_hold_the_metadata";
    if !power::is_possible(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let disk = Disk::new(folder.path())?;
    let broker = start(folder.path(), &disk)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "old", 2, &[])?;
    let slowest = Slowest::default();
    let ice = disk.freeze()?;
    let create = || client::create_topic(&bootstrap, "new", 8, &[]);
    slowest.time("CreateTopics", create)?;
    for partition in 0..8 {
        let record = client::value_record(b"v");
        let produce = || client::produce(&bootstrap, "new", partition, &[record], &[]);
        slowest.time("a produce", produce)?;
    }
    let (_, metrics) = broker.http_get("/metrics")?;
    let hung = metrics
        .lines()
        .find(|line| line.starts_with("ottla_log_directory_hung") && line.ends_with(" 1.0"));
    let log = broker.settings().log_text();
    ensure!(hung.is_some(), "no directory is said to hang:\n{log}");
    let alter = || client::alter_topic(&bootstrap, "old", &[("retention.ms", "1000000")]);
    slowest.time("AlterConfigs", alter)?;
    let delete = || client::delete_topic(&bootstrap, "old");
    slowest.time("DeleteTopics", delete)?;
    drop(ice);
    let deadline = Instant::now() + Duration::from_secs(20);
    let left = || -> Result<Vec<String>> {
        let names = std::fs::read_dir(disk.path().join("data"))?;
        let names = names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<Result<Vec<_>>>()?;
        Ok(names
            .into_iter()
            .filter(|n| n.starts_with("new") || n.starts_with("old"))
            .collect())
    };
    while !left()?.is_empty() {
        ensure!(Instant::now() < deadline, "left behind: {:?}", left()?);
        thread::sleep(Duration::from_millis(50));
    }
    slowest.check()?;
    broker.stop()?;
    Ok(())
}

/// A consumer that is in no generation commits an offset.
fn commit(bootstrap: &str, group: &str) -> Result<i16> {
    let mut connection = Raw::connect(bootstrap)?;
    group_wire::commit(&mut connection, &Who::in_group(group), "t", "")
}

/// The coordinators of some groups write to the disk that hangs, those of others do not.
#[test]
fn groups_whose_coordinators_are_elsewhere_go_on_while_a_disk_hangs() -> Result<()> {
    let test = "groups_whose_coordinators_are_elsewhere_go_on_while_a_disk_hangs";
    if !power::is_possible(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let disk = Disk::new(folder.path())?;
    let broker = start(folder.path(), &disk)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let groups: Vec<String> = (0..40).map(|n| format!("group-{n}")).collect();
    for group in &groups {
        let deadline = Instant::now() + client::TIMEOUT;
        while commit(&bootstrap, group)? != 0 {
            ensure!(Instant::now() < deadline, "{group} has no coordinator");
            // Makes the topic of the offsets, if it is not there.
            let _ = client::committed(&bootstrap, group, "t");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let (slowest, done) = (Slowest::default(), AtomicU64::new(0));
    let ice = disk.freeze()?;
    thread::scope(|scope| {
        let (slowest, done, bootstrap) = (&slowest, &done, &bootstrap);
        for group in &groups {
            scope.spawn(move || {
                let began = Instant::now();
                if matches!(commit(bootstrap, group), Ok(0)) && began.elapsed() < BOUND {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope
            .spawn(move || {
                let began = Instant::now();
                while began.elapsed() < FROZEN {
                    let _ = slowest.time("HTTP", || broker.http_get("/metrics"));
                    let _ = slowest.time("ApiVersions", || wire::api_versions(bootstrap));
                    thread::sleep(Duration::from_millis(100));
                }
                drop(ice);
                broker
            })
            .join()
            .expect("no thread panics")
    });
    slowest.check()?;
    let done = done.load(Ordering::Relaxed);
    println!("{done} of 40 groups went on");
    ensure!((10..40).contains(&done), "{done} groups went on");
    Ok(())
}
