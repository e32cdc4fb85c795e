//! Kafka's own `kafka-log-dirs`, `kafka-reassign-partitions` and `kafka-configs` on a broker of two
//! log directories.
//!
//! Needs Java and Kafka's jars (`scripts/kafka-jars`). Without them it says loudly that nothing was
//! checked; with `OTTLA_REQUIRE_KAFKA` set that is a failure.

use anyhow::{Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::process::run;
use ottla_compat_tests::rust_client::{self as client, value_record};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn jars() -> Option<PathBuf> {
    let cache = std::env::var_os("OTTLA_CACHE").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/ottla"));
    let jars = cache.or_else(home)?.join("kafka/cp");
    let java = Command::new("java").arg("-version").output();
    let there = jars.join(".complete-4.3.0").exists();
    (there && java.is_ok_and(|output| output.status.success())).then_some(jars)
}

/// What a tool says on a broker.
fn tool(jars: &Path, class: &str, bootstrap: &str, args: &[&str]) -> Result<String> {
    let mut java = Command::new("java");
    java.arg("-cp")
        .arg(jars.join("*"))
        .args([class, "--bootstrap-server", bootstrap])
        .args(args);
    let output = run(&mut java, b"")?;
    let said = output.stdout;
    let errors = output.stderr;
    ensure!(output.status.success(), "{class}: {said}\n{errors}");
    Ok(said)
}

#[test]
fn kafkas_tools_show_the_directories_move_a_partition_and_cordon_one() -> Result<()> {
    let Some(jars) = jars() else {
        let required = std::env::var_os("OTTLA_REQUIRE_KAFKA").is_some();
        ensure!(!required, "Java or Kafka's jars are missing");
        eprintln!("NOT CHECKED: Java or Kafka's jars are missing (scripts/kafka-jars)");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let settings = Settings::new(folder.path())?;
    let (first, second) = (settings.data(), folder.path().join("second"));
    let dirs = format!("{},{}", first.display(), second.display());
    let broker = Broker::start(settings.with("log.dirs", dirs))?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let records: Vec<_> = (0..100).map(|_| value_record(&[7; 1_000])).collect();
    client::produce(&bootstrap, "t", 0, &records, &[])?;
    let describe = || {
        let class = "org.apache.kafka.tools.LogDirsCommand";
        tool(
            &jars,
            class,
            &bootstrap,
            &["--describe", "--topic-list", "t"],
        )
    };
    let said = describe()?;
    let paths = [first.display().to_string(), second.display().to_string()];
    ensure!(paths.iter().all(|path| said.contains(path)), "{said}");
    ensure!(said.contains("\"partition\":\"t-0\""), "{said}");
    ensure!(first.join("t-0").exists() && !second.join("t-0").exists());
    let plan = folder.path().join("plan.json");
    let json = format!(
        "{{\"version\":1,\"partitions\":[{{\"topic\":\"t\",\"partition\":0,\
         \"replicas\":[1],\"log_dirs\":[\"{}\"]}}]}}",
        second.display()
    );
    std::fs::write(&plan, json)?;
    let plan = plan.display().to_string();
    let reassign = |what: &str| {
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        let args = ["--reassignment-json-file", &plan, what];
        tool(&jars, class, &bootstrap, &args)
    };
    let said = reassign("--execute")?;
    ensure!(
        said.contains("Successfully started moving log directory"),
        "{said}"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = reassign("--verify")?;
        if said.contains("Reassignment of replica t-0-1 completed successfully.") {
            break;
        }
        ensure!(Instant::now() < deadline, "{said}");
    }
    ensure!(!first.join("t-0").exists() && second.join("t-0").exists());
    ensure!(client::read_all(&bootstrap, "t", 0)?.len() == 100);
    let said = describe()?;
    ensure!(!said.contains("\"isFuture\":true"), "{said}");
    cordon(&jars, &bootstrap, (&first, &second))?;
    broker.stop()?;
    Ok(())
}

/// The first directory has fewer partitions, and gets no new ones while it is cordoned (KIP-1066).
fn cordon(jars: &Path, bootstrap: &str, (first, second): (&Path, &Path)) -> Result<()> {
    let configs = |what: &[&str]| {
        let broker = ["--entity-type", "brokers", "--entity-name", "1"];
        let class = "kafka.admin.ConfigCommand";
        tool(jars, class, bootstrap, &[&broker, what].concat())
    };
    let cordoned = format!("cordoned.log.dirs={}", first.display());
    let said = configs(&["--alter", "--add-config", &cordoned])?;
    ensure!(
        said.contains("Completed updating config for broker 1"),
        "{said}"
    );
    let said = configs(&["--describe"])?;
    ensure!(said.contains(&cordoned), "{said}");
    let in_use = |topic: &str| -> Result<bool> {
        client::create_topic(bootstrap, topic, 1, &[])?;
        client::produce(bootstrap, topic, 0, &[value_record(b"x")], &[])?;
        let folder = format!("{topic}-0");
        ensure!(first.join(&folder).exists() != second.join(&folder).exists());
        Ok(first.join(&folder).exists())
    };
    ensure!(
        !in_use("elsewhere")?,
        "a cordoned directory got a partition"
    );
    configs(&["--alter", "--delete-config", "cordoned.log.dirs"])?;
    ensure!(in_use("there")?, "it is not cordoned any more");
    Ok(())
}
