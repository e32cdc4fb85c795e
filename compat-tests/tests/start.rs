//! A start after a crash, while the log of one partition is slow to open: the others are served.

use anyhow::{Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::power;
use ottla_compat_tests::rust_client::{self as client, value_record};
use std::time::{Duration, Instant};

/// How long the disk keeps the first read of the slow log.
const SLOW: Duration = Duration::from_secs(8);

fn progress(broker: &Broker) -> Result<(u16, serde_json::Value)> {
    let (status, body) = broker.http_get("/ready")?;
    Ok((status, serde_json::from_str(&body)?))
}

#[test]
fn partitions_are_served_as_their_logs_are_opened_and_ready_tells_how_many() -> Result<()> {
    let test = "partitions_are_served_as_their_logs_are_opened_and_ready_tells_how_many";
    if !power::can_inject(test) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(Settings::new(folder.path())?)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 2, &[])?;
    for partition in 0..2 {
        client::produce(&bootstrap, "t", partition, &[value_record(b"before")], &[])?;
    }
    let mut settings = broker.kill()?;
    let slow = settings.data().join("t-0/00000000000000000000.log");
    let delay = format!("inject=pread64:delay_enter={}:when=1", SLOW.as_micros());
    let slow = slow.display().to_string();
    // -D: the broker stays our child.
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", &slow];
    let what = ["-e", "trace=pread64", "-e", &delay];
    settings.starter = strace
        .iter()
        .chain(&what)
        .map(|one| (*one).to_owned())
        .collect();
    let started = Instant::now();
    let mut broker = Broker::begin(settings)?;

    client::produce(&bootstrap, "t", 1, &[value_record(b"during")], &[])?;
    let (status, told) = progress(&broker)?;
    let served_after = started.elapsed();
    ensure!(
        status == 503 && told["phase"] == "recovering_logs",
        "{told}"
    );
    let recovery = &told["recovery"];
    ensure!(
        recovery["logs_total"] == 2 && recovery["logs_recovered"] == 1,
        "{told}"
    );
    // What changes partitions waits, and is done in the end.
    let creating = {
        let bootstrap = bootstrap.clone();
        std::thread::spawn(move || client::create_topic(&bootstrap, "new", 1, &[]))
    };
    client::produce(&bootstrap, "t", 0, &[value_record(b"after")], &[])?;
    broker.wait_until_ready()?;
    ensure!(started.elapsed() >= SLOW, "the log was not slow");
    println!(
        "one partition after {served_after:?}, all after {:?}",
        started.elapsed()
    );
    ensure!(creating.join().is_ok_and(|created| created.is_ok()));
    for (partition, second) in [(0, b"after".as_slice()), (1, b"during")] {
        let found = client::read_all(&bootstrap, "t", partition)?;
        let values = found.iter().map(|record| record.value.as_deref());
        ensure!(
            values.eq([Some(b"before".as_slice()), Some(second)]),
            "{found:?}"
        );
    }
    broker.assert_alive()
}
