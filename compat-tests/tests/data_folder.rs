//! A data folder that is full, read-only, taken, or somebody else's; a port that is in use. Each is
//! a clear error on the way up, or Kafka's error code later; nobody else is harmed, nothing is
//! lost.

use anyhow::{Context as _, Result, bail, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::process::{run, wait};
use ottla_compat_tests::rust_client::{self as client, Producer, value_record};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Starts a broker that must not come up, and returns what it said.
fn expect_refusal(settings: &Settings) -> Result<String> {
    let before = settings.log_tail();
    let mut child = settings.spawn()?;
    let Some(status) = wait(&mut child, Duration::from_secs(30)) else {
        child.kill()?;
        child.wait()?;
        bail!("it came up:\n{}", settings.log_tail());
    };
    let said = settings.log_tail();
    let said = said.strip_prefix(&before).unwrap_or(&said).to_owned();
    ensure!(!status.success(), "it ended with success:\n{said}");
    ensure!(
        !said.contains("panicked"),
        "a panic is no error message:\n{said}"
    );
    Ok(said)
}

fn assert_says(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(said.contains(word), "no '{word}' in:\n{said}");
    }
    Ok(())
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let first = Broker::start(settings.clone())?;
    client::create_topic(first.bootstrap(), "t", 1, &[])?;
    let other = tempfile::tempdir()?;
    let second = Settings::new(other.path())?.with("log.dirs", settings.data().display());
    let said = expect_refusal(&second)?;
    assert_says(&said, &["in use", &settings.data().display().to_string()])?;
    client::produce(first.bootstrap(), "t", 0, &[value_record(b"x")], &[])?;
    ensure!(client::read_all(first.bootstrap(), "t", 0)?.len() == 1);
    first.stop()?;
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let mut settings = Settings::new(folder.path())?;
    settings.port = taken.local_addr()?.port();
    assert_says(
        &expect_refusal(&settings)?,
        &["in use", &settings.port.to_string()],
    )?;
    let folder = tempfile::tempdir()?;
    let mut settings = Settings::new(folder.path())?;
    settings.http_port = taken.local_addr()?.port();
    assert_says(
        &expect_refusal(&settings)?,
        &["in use", &settings.http_port.to_string()],
    )
}

#[test]
fn a_folder_of_another_node_or_cluster_is_refused_and_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let broker = Broker::start(settings.clone())?;
    client::create_topic(broker.bootstrap(), "t", 1, &[])?;
    client::produce(broker.bootstrap(), "t", 0, &[value_record(b"mine")], &[])?;
    broker.stop()?;
    let other_node = settings.clone().with("node.id", 2);
    assert_says(&expect_refusal(&other_node)?, &["node 1", "node 2"])?;
    let meta = settings.data().join("meta.properties");
    let text = std::fs::read_to_string(&meta).context("Kafka's own file is there")?;
    let line = text
        .lines()
        .find(|line| line.starts_with("cluster.id="))
        .context("no cluster.id")?;
    let foreign = text.replace(line, "cluster.id=AAAAAAAAQAAAAAAAAAAAAQ");
    std::fs::write(&meta, foreign)?;
    assert_says(
        &expect_refusal(&settings)?,
        &["cluster", "AAAAAAAAQAAAAAAAAAAAAQ"],
    )?;
    std::fs::write(&meta, text)?;
    let broker = Broker::start(settings)?;
    let found = client::read_all(broker.bootstrap(), "t", 0)?;
    ensure!(
        found.len() == 1 && found[0].value.as_deref() == Some(b"mine"),
        "found {found:?}"
    );
    Ok(())
}

#[test]
fn a_damaged_file_of_identity_is_refused_with_its_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    Broker::start(settings.clone())?.stop()?;
    let meta = settings.data().join("meta.properties");
    std::fs::write(&meta, b"version=\xff\xfe\nnode.id=one\n")?;
    assert_says(&expect_refusal(&settings)?, &["meta.properties"])
}

/// A small file system of its own; only root can mount one.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount<'a>(at: &'a Path, options: &str) -> Result<Option<Mount<'a>>> {
    std::fs::create_dir_all(at)?;
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at);
    let mounted = run(&mut command, b"").is_ok_and(|output| output.status.success());
    if !mounted {
        println!("NOT CHECKED: this user cannot mount a file system");
        eprintln!("NOT CHECKED: this user cannot mount a file system");
    }
    Ok(mounted.then_some(Mount(at)))
}

/// An ext4 of so many MiB in a file of `folder`, mounted; only root can.
fn mount_ext4<'a>(folder: &Path, at: &'a Path, mib: u32) -> Result<Option<Mount<'a>>> {
    std::fs::create_dir_all(at)?;
    let image = folder.join("disk.img");
    std::fs::File::create(&image)?.set_len(u64::from(mib) << 20)?;
    let run_all = || -> Result<bool> {
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0"]).arg(&image);
        let mut mount = Command::new("mount");
        mount
            .args(["-o", "loop,errors=remount-ro"])
            .arg(&image)
            .arg(at);
        Ok(run(&mut make, b"")?.status.success() && run(&mut mount, b"")?.status.success())
    };
    let mounted = run_all().unwrap_or(false);
    if !mounted {
        println!("NOT CHECKED: this user cannot mount an ext4 file system");
        eprintln!("NOT CHECKED: this user cannot mount an ext4 file system");
    }
    Ok(mounted.then_some(Mount(at)))
}

/// Produces until the disk is full; answers what was acknowledged.
fn fill(bootstrap: &str, topic: &str, mib: u32) -> Result<Vec<(i64, Vec<u8>)>> {
    let producer = Producer::new(
        bootstrap,
        &[("acks", "all"), ("message.timeout.ms", "4000")],
    )?;
    for index in 0..mib * 2 {
        let mut value = vec![7; 500_000];
        value[..4].copy_from_slice(&index.to_be_bytes());
        producer.send_value(topic, 0, &value)?;
    }
    producer.flush(Duration::from_secs(60))?;
    let deliveries = producer.deliveries.all();
    let acknowledged = deliveries
        .into_iter()
        .filter_map(|delivery| Some((delivery.offset.ok()?, delivery.value.to_vec())));
    Ok(acknowledged.collect())
}

fn disk_state(broker: &Broker) -> Result<String> {
    let (_, body) = broker.http_get("/ready")?;
    let (_, rest) = body
        .split_once("\"log_dirs\"")
        .context("no log_dirs in /ready")?;
    let (_, rest) = rest.split_once("\"state\":").context("no state")?;
    Ok(rest
        .trim_start()
        .trim_matches('"')
        .chars()
        .take_while(|c| *c != '"')
        .collect())
}

fn wait_for_state(broker: &Broker, wanted: &[&str]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let state = disk_state(broker)?;
        if wanted.contains(&&*state) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{state} instead of {wanted:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_ext4_serves_readers_and_takes_records_again_without_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?
        .with("log.segment.bytes", 4 << 20)
        .with("offsets.topic.num.partitions", 1)
        .with("ottla.disk.reject.free.bytes", 6 << 20)
        .with("ottla.disk.warning.free.bytes", 12 << 20);
    let data = settings.data();
    let Some(_mount) = mount_ext4(folder.path(), &data, 64)? else {
        return Ok(());
    };
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "kept", 1, &[])?;
    client::create_topic(&bootstrap, "large", 1, &[])?;
    client::produce(&bootstrap, "kept", 0, &[value_record(b"before")], &[])?;
    let acknowledged = fill(&bootstrap, "large", 64)?;
    ensure!(
        (40..128).contains(&acknowledged.len()),
        "{} of 128 fitted",
        acknowledged.len()
    );
    broker.assert_alive()?;
    // Reads go on, and offsets of groups are committed from the allotment.
    let found = client::read_all(&bootstrap, "large", 0)?;
    for (offset, value) in &acknowledged {
        let record = found.iter().find(|record| record.offset == *offset);
        let same = record.and_then(|record| record.value.as_deref()) == Some(&value[..]);
        ensure!(same, "offset {offset} was acknowledged");
    }
    let reader = client::consumer(&bootstrap, &[("group.id", "reader")])?;
    let mut read = TopicPartitionList::new();
    read.add_partition_offset("kept", 0, Offset::Offset(1))?;
    reader.commit(&read, CommitMode::Sync)?;
    let committed = client::committed(&bootstrap, "reader", "kept")?;
    ensure!(committed[&0].0 == 1, "{committed:?}");
    // What makes room is enough: nobody starts anything again.
    client::delete_topic(&bootstrap, "large")?;
    wait_for_state(&broker, &["online"])?;
    client::produce(&bootstrap, "kept", 0, &[value_record(b"after")], &[])?;
    client::create_topic(&bootstrap, "new", 1, &[])?;
    ensure!(client::read_all(&bootstrap, "kept", 0)?.len() == 2);
    broker.stop()?;
    Ok(())
}

#[test]
fn an_ext4_that_runs_full_without_marks_refuses_records_and_poisons_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?
        .with("log.segment.bytes", 4 << 20)
        .with("ottla.disk.reject.free.bytes", 0)
        .with("ottla.disk.warning.free.bytes", 0);
    let data = settings.data();
    let Some(_mount) = mount_ext4(folder.path(), &data, 48)? else {
        return Ok(());
    };
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    // So that what makes room later is not the ballast alone.
    let ballast = data.join("ballast");
    std::fs::write(&ballast, vec![1u8; 8 << 20])?;
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let acknowledged = fill(&bootstrap, "t", 48)?;
    ensure!(
        (20..96).contains(&acknowledged.len()),
        "{} of 96 fitted",
        acknowledged.len()
    );
    broker.assert_alive()?;
    std::fs::remove_file(&ballast)?;
    let before = acknowledged.len();
    client::produce(&bootstrap, "t", 0, &[value_record(b"again")], &[])?;
    let found = client::read_all(&bootstrap, "t", 0)?;
    ensure!(found.len() > before, "{} records", found.len());
    broker.stop()?;
    Ok(())
}

/// Takes all that is left of a file system, until it is removed.
fn take_all(at: &Path) -> Result<PathBuf> {
    let ballast = at.join("ballast");
    let mut file = std::fs::File::create(&ballast)?;
    for size in [1 << 16, 1 << 10, 1] {
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
    Ok(ballast)
}

#[test]
fn changes_of_the_metadata_wait_for_room_on_its_disk_and_records_go_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let metadata = folder.path().join("metadata");
    let settings = Settings::new(folder.path())?
        .with("metadata.log.dir", metadata.display())
        .with("ottla.disk.reject.free.bytes", 0)
        .with("ottla.disk.warning.free.bytes", 0);
    let Some(_mount) = mount(&metadata, "size=2m")? else {
        return Ok(());
    };
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let ballast = take_all(&metadata)?;
    // Some may still fit into what the log has of its last block.
    let creating: Vec<_> = (0..30)
        .map(|number| {
            let bootstrap = bootstrap.clone();
            let create =
                move || client::create_topic(&bootstrap, &format!("new-{number}"), 20, &[]);
            std::thread::spawn(create)
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !broker
        .settings()
        .log_text()
        .contains("changes of the metadata wait")
    {
        ensure!(
            Instant::now() < deadline,
            "the disk of the metadata is not full"
        );
        broker.assert_alive()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    client::produce(&bootstrap, "t", 0, &[value_record(b"meanwhile")], &[])?;
    ensure!(client::read_all(&bootstrap, "t", 0)?.len() == 1);
    ensure!(creating.iter().any(|create| !create.is_finished()));
    broker.assert_alive()?;
    std::fs::remove_file(ballast)?;
    for create in creating {
        let created = create.join().map_err(|_| anyhow::anyhow!("a panic"))?;
        created.context("once there was room")?;
    }
    client::produce(&bootstrap, "new-29", 0, &[value_record(b"x")], &[])?;
    broker.stop()?;
    Ok(())
}

/// The kernel finds an error in the file system, and from now on only lets it be read.
fn make_read_only(mounted: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let at = mounted.canonicalize()?.display().to_string();
    let device = mounts.lines().find_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        (rest.split(' ').next() == Some(&*at)).then(|| device.trim_start_matches("/dev/"))
    });
    let device = device.context("not mounted")?;
    let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
    std::fs::write(&trigger, "a test").with_context(|| trigger)?;
    Ok(())
}

#[test]
fn an_ext4_that_becomes_read_only_serves_readers_and_refuses_records() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let data = settings.data();
    let Some(_mount) = mount_ext4(folder.path(), &data, 64)? else {
        return Ok(());
    };
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    client::produce(&bootstrap, "t", 0, &[value_record(b"before")], &[])?;
    make_read_only(&data)?;
    let producer = Producer::new(
        &bootstrap,
        &[("acks", "all"), ("message.timeout.ms", "2000")],
    )?;
    producer.send_value("t", 0, b"refused")?;
    producer.flush(Duration::from_secs(30))?;
    let refused = producer.deliveries.first_error();
    ensure!(refused.is_some(), "acknowledged on a read-only disk");
    ensure!(client::create_topic(&bootstrap, "new", 1, &[]).is_err());
    broker.assert_alive()?;
    wait_for_state(&broker, &["read-only"])?;
    // A consumer asks for its coordinator, which wants the topic of the offsets to be made.
    for _ in 0..2 {
        let found = client::read_all(&bootstrap, "t", 0)?;
        ensure!(found.len() == 1 && found[0].value.as_deref() == Some(b"before"));
    }
    broker.assert_alive()?;
    let settings = broker.settings().clone();
    let ended = broker.stop().err().context("a clean shutdown")?;
    assert_says(&format!("{ended:#}"), &["the shutdown was not clean"])?;
    assert_says(&expect_refusal(&settings)?, &["ead-only"])
}

/// From now on every access of the file system fails with EIO, as when its disk is pulled out.
fn pull_out(mounted: &Path) -> Result<()> {
    let ioctl = "import fcntl, os, struct, sys\n\
        fd = os.open(sys.argv[1], os.O_RDONLY)\n\
        fcntl.ioctl(fd, 0x8004587D, struct.pack('I', 2))\n";
    let mut command = Command::new("python3");
    command.args(["-c", ioctl]).arg(mounted);
    let output = run(&mut command, b"")?;
    ensure!(
        output.status.success(),
        "EXT4_IOC_SHUTDOWN: {}",
        output.stderr
    );
    Ok(())
}

#[test]
fn a_disk_that_is_pulled_out_takes_only_its_partitions_along() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let (first, second) = (settings.data(), folder.path().join("second"));
    let dirs = format!("{},{}", first.display(), second.display());
    let settings = settings.with("log.dirs", dirs);
    let Some(_mount) = mount_ext4(folder.path(), &second, 64)? else {
        return Ok(());
    };
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 2, &[])?;
    for partition in 0..2 {
        client::produce(&bootstrap, "t", partition, &[value_record(b"x")], &[])?;
    }
    ensure!(first.join("t-0").exists() && second.join("t-1").exists());
    pull_out(&second)?;
    let producer = Producer::new(
        &bootstrap,
        &[("acks", "all"), ("message.timeout.ms", "3000")],
    )?;
    producer.send_value("t", 1, b"lost")?;
    producer.send_value("t", 0, b"kept")?;
    producer.flush(Duration::from_secs(30))?;
    let deliveries = producer.deliveries.all();
    let acknowledged = deliveries.iter().filter(|one| one.offset.is_ok());
    let acknowledged: Vec<_> = acknowledged.map(|one| one.value.to_vec()).collect();
    ensure!(acknowledged == [b"kept"], "{acknowledged:?}");
    broker.assert_alive()?;
    let (status, body) = broker.http_get("/health")?;
    ensure!(status == 200 && body.contains("is offline"), "{body}");
    let (_, metrics) = broker.http_get("/metrics")?;
    let counted = "kafka_log_logmanager_offlinelogdirectorycount 1";
    ensure!(metrics.contains(counted), "{metrics}");
    client::create_topic(&bootstrap, "new", 2, &[])?;
    client::produce(&bootstrap, "new", 1, &[value_record(b"y")], &[])?;
    ensure!(client::read_all(&bootstrap, "t", 0)?.len() == 2);
    Ok(())
}

#[test]
fn a_read_only_folder_is_a_clear_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let data = settings.data();
    let Some(_mount) = mount(&data, "ro,size=1m")? else {
        return Ok(());
    };
    assert_says(
        &expect_refusal(&settings)?,
        &[&data.display().to_string(), "ead-only"],
    )
}

#[test]
fn a_folder_without_permission_to_write_is_a_clear_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let data = settings.data();
    std::fs::create_dir_all(&data)?;
    let allow = |mode| std::fs::set_permissions(&data, Permissions::from_mode(mode));
    allow(0o555)?;
    // Permissions do not bind root.
    if std::fs::write(data.join("probe"), b"").is_ok() {
        println!("NOT CHECKED: this user may write everywhere; the read-only mount is checked");
        return Ok(());
    }
    let said = expect_refusal(&settings);
    allow(0o755)?;
    assert_says(&said?, &[&data.display().to_string(), "ermission denied"])?;
    Broker::start(settings)?.stop()?;
    Ok(())
}

#[test]
fn a_file_in_the_place_of_the_folder_is_a_clear_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    std::fs::write(settings.data(), b"not a folder")?;
    assert_says(
        &expect_refusal(&settings)?,
        &[&settings.data().display().to_string()],
    )
}

#[test]
fn a_full_disk_refuses_records_and_keeps_what_it_acknowledged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let settings = settings
        .with("log.segment.bytes", 4 << 20)
        .with("log.preallocate", "false");
    let data = settings.data();
    let Some(_mount) = mount(&data, "size=48m")? else {
        return Ok(());
    };
    let mut broker = Broker::start(settings.clone())?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let producer = Producer::new(
        &bootstrap,
        &[("acks", "all"), ("message.timeout.ms", "8000")],
    )?;
    for index in 0..120u32 {
        let mut value = vec![7; 500_000];
        value[..4].copy_from_slice(&index.to_be_bytes());
        producer.send_value("t", 0, &value)?;
    }
    producer.flush(Duration::from_secs(60))?;
    let deliveries = producer.deliveries.all();
    let acknowledged: Vec<_> = deliveries
        .iter()
        .filter_map(|delivery| Some((delivery.offset.ok()?, delivery)))
        .collect();
    ensure!(
        acknowledged.len() >= 20,
        "only {} fitted",
        acknowledged.len()
    );
    ensure!(acknowledged.len() < 120, "60 MB fitted into 48 MB");
    broker.assert_alive()?;
    // What was acknowledged is there, now and after room was made and the broker started again.
    let check = |bootstrap: &str| -> Result<()> {
        let found = client::read_all(bootstrap, "t", 0)?;
        for (offset, delivery) in &acknowledged {
            let record = found.iter().find(|record| record.offset == *offset);
            let value = record.and_then(|record| record.value.as_deref());
            ensure!(
                value == Some(&delivery.value[..]),
                "offset {offset} was acknowledged"
            );
        }
        Ok(())
    };
    check(&bootstrap).context("while the disk is full")?;
    broker.kill()?;
    run(
        Command::new("mount")
            .args(["-o", "remount,size=96m"])
            .arg(&data),
        b"",
    )?;
    let broker = Broker::start(settings)?;
    check(&bootstrap).context("after a restart with more room")?;
    client::produce(&bootstrap, "t", 0, &[value_record(b"room again")], &[])?;
    broker.stop()?;
    Ok(())
}
