//! `kafka-consumer-groups` prints the same against this broker as against Apache Kafka, and so do
//! Kafka's own readers of `__consumer_offsets`.
//!
//! One script of calls and of things that happen between them is carried out against both brokers,
//! side by side, and what the tool printed is compared call by call. Ids of members, ports and the
//! padding of columns are taken out first, and the lines of one call are sorted, because the tool
//! itself prints them in the order of its hash maps.

use anyhow::{Context as _, Result, bail, ensure};
use ottla_compat_tests::broker::Broker;
use ottla_compat_tests::groups::clients::{GROUP_CLIENTS, GroupClient};
use ottla_compat_tests::groups::{Kind, Stage};
use ottla_compat_tests::process::{cache, is_installed};
use ottla_compat_tests::rust_client as client;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The records' own time: one second apart, long ago.
const BASE_MS: i64 = 1_700_000_000_000;
/// The records are old, and retention would take them.
const KEPT: [(&str, &str); 1] = [("retention.ms", "-1")];

/// One JVM in which the tool is called again and again.
struct Tool {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    bootstrap: String,
    /// Every call and what it printed.
    said: Vec<(String, Vec<String>)>,
}

impl Tool {
    fn start(bootstrap: &str) -> Result<Tool> {
        let folder = cache().join("clients/java");
        let mut command = Command::new("java");
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m"]);
        // Times on the command line and in the output are in the zone of the machine.
        command.arg("-Duser.timezone=UTC");
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        let jars = cache().join("kafka/cp");
        command.arg("-cp");
        command.arg(format!("{}:{}/*", folder.display(), jars.display()));
        let mut child = command
            .arg("ToolScript")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Tool {
            stdin: child.stdin.take().context("piped")?,
            stdout: BufReader::new(child.stdout.take().context("piped")?),
            child,
            bootstrap: bootstrap.to_owned(),
            said: Vec::new(),
        })
    }

    /// Calls a tool; what it printed, as it was.
    fn raw(&mut self, tool: &str, arguments: &str) -> Result<String> {
        let bootstrap = &self.bootstrap;
        writeln!(
            self.stdin,
            "{tool} --bootstrap-server {bootstrap} {arguments}"
        )?;
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line)? == 0 {
                bail!("the tool ended at {arguments}:\n{text}");
            }
            if line == ".\n" {
                return Ok(text);
            }
            text.push_str(&line);
        }
    }

    /// Calls the tool and keeps what it printed for the comparison.
    fn call(&mut self, arguments: &str) -> Result<()> {
        let text = self.raw("groups", arguments)?;
        let port = self.bootstrap.rsplit(':').next().unwrap_or_default();
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with("\tat "))
            .map(|line| line.replace(port, "PORT"))
            .map(|line| normal(&line))
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort();
        let arguments = arguments.replace(&std::process::id().to_string(), "PID");
        self.said.push((arguments, lines));
        Ok(())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Words with one space between, and ids that a client has made up taken out.
fn normal(line: &str) -> String {
    let is_uuid = |word: &str| {
        let dashes = word.bytes().filter(|byte| *byte == b'-').count();
        word.len() >= 36 && dashes >= 4 && word.bytes().any(|byte| byte.is_ascii_digit())
    };
    let words = line.split_whitespace().map(|word| {
        let own = word.trim_end_matches([',', '.', ')']);
        let id = own.len().checked_sub(36).and_then(|at| own.get(at..));
        match id {
            Some(id) if is_uuid(id) => word.replace(id, "UUID"),
            _ if is_base64_of_sixteen_bytes(own) => "ID".into(),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Members of the new protocol call themselves so. In two of a hundred there is no digit.
fn is_base64_of_sixteen_bytes(word: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    word.len() == 22 && word.bytes().all(is_sign) && word.ends_with(['A', 'Q', 'g', 'w'])
}

#[test]
fn ids_that_a_client_made_up_are_taken_out_whatever_they_are_made_of() {
    let line = "modern  orders 0 eK_WUnRCQOOLPuwKkUidAA, 3f2Zb1LKRYyXw0qC-9aLtg CURRENT-OFFSET";
    assert_eq!(normal(line), "modern orders 0 ID ID CURRENT-OFFSET");
}

/// What Kafka's own formatters read in `__consumer_offsets` about the groups of the script.
fn records(tool: &mut Tool) -> Result<()> {
    for formatter in ["OffsetsMessageFormatter", "GroupMetadataMessageFormatter"] {
        let arguments = format!(
            "--topic __consumer_offsets --from-beginning --timeout-ms 4000 \
             --formatter org.apache.kafka.tools.consumer.{formatter}"
        );
        let text = tool.raw("console", &arguments)?;
        // One object after the other, without an end of the line.
        let objects = text.split("{\"key\":").filter(|object| {
            let ours = |group: &str| object.contains(&format!("\"group\":\"{group}\""));
            ours("idle") || ours("active")
        });
        // Kafka also writes a group down that has no generation yet.
        let objects = objects.filter(|object| !object.contains("\"generation\":0"));
        let mut lines: Vec<String> = objects.map(without_chance).collect();
        ensure!(!lines.is_empty(), "{formatter} sees nothing:\n{text}");
        lines.sort();
        tool.said.push((formatter.to_owned(), lines));
    }
    Ok(())
}

/// A record without what is new each time: times, ids of topics and members, Base64 of these.
fn without_chance(object: &str) -> String {
    let object = object.split('\n').next().unwrap_or_default();
    // The console consumer's complaint about its timeout follows without a new line.
    let object = object.split("[main] ").next().unwrap_or_default();
    let by_chance = [
        "\"commitTimestamp\":",
        "\"currentStateTimestamp\":",
        "\"topicId\":\"",
        "\"leader\":\"",
        "\"memberId\":\"",
    ];
    let fields = object.split(',').map(|field| {
        let name = by_chance.iter().find(|name| field.contains(**name));
        name.map_or_else(|| field.to_owned(), |name| format!("{name} something"))
    });
    fields.collect::<Vec<_>>().join(",")
}

/// The client of a row of the matrix.
fn client_of(name: &str) -> &'static GroupClient {
    let mut clients = GROUP_CLIENTS.iter();
    clients
        .find(|client| client.name == name)
        .expect("a row of this name")
}

/// Three partitions with 10, 20 and 30 records, and another topic.
fn fill(bootstrap: &str) -> Result<()> {
    // Apache Kafka answers a moment before it can create anything.
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = client::create_topic(bootstrap, "orders", 3, &KEPT) {
        ensure!(Instant::now() < deadline, "{error:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
    client::create_topic(bootstrap, "other", 1, &KEPT)?;
    for partition in 0..3 {
        let records: Vec<_> = (0..10 * (i64::from(partition) + 1))
            .map(|second| client::Record {
                timestamp_ms: Some(BASE_MS + second * 1000),
                ..client::value_record(b"v")
            })
            .collect();
        client::produce(
            bootstrap,
            "orders",
            partition,
            &records,
            &[("batch.num.messages", "1")],
        )?;
    }
    let one = [client::value_record(b"v")];
    client::produce(bootstrap, "other", 0, &one, &[])?;
    Ok(())
}

const DESCRIBE: &[&str] = &[
    "--list",
    "--list --state",
    "--list --state Empty",
    "--list --state Stable",
    "--list --state Stable,Empty",
    "--list --state PreparingRebalance",
    "--list --type",
    "--list --type classic",
    "--list --type consumer",
    "--list --type classic --state Empty",
    "--describe --group idle",
    "--describe --group idle --offsets --verbose",
    "--describe --group idle --members",
    "--describe --group idle --state",
    "--describe --group active",
    "--describe --group active --offsets --verbose",
    "--describe --group active --members",
    "--describe --group active --members --verbose",
    "--describe --group active --state",
    "--describe --group active --state --verbose",
    "--describe --group modern",
    "--describe --group modern --offsets --verbose",
    "--describe --group modern --members",
    "--describe --group modern --members --verbose",
    "--describe --group modern --state",
    "--describe --group modern --state --verbose",
    "--describe --group idle --group active",
    "--describe --all-groups",
    "--describe --all-groups --members",
    "--describe --all-groups --state",
    "--describe --group nobody",
    "--describe --group nobody --members",
    "--describe --group nobody --state",
];

/// Each is followed by a look at the group.
const RESET: &[&str] = &[
    "--group idle --topic orders --to-earliest",
    "--group idle --topic orders --to-earliest --dry-run",
    "--group idle --topic orders --to-earliest --execute",
    "--group idle --topic orders --to-latest --execute",
    "--group idle --topic orders:0,2 --to-offset 5 --execute",
    "--group idle --topic orders --to-offset 15 --execute",
    "--group idle --topic orders --shift-by -3 --execute",
    "--group idle --topic orders --shift-by 1000 --execute",
    "--group idle --topic orders --shift-by -1000 --execute",
    "--group idle --topic orders --to-datetime 2023-11-14T22:13:25.500 --execute",
    "--group idle --topic orders --to-datetime 2023-11-14T22:13:35.000Z --execute",
    "--group idle --topic orders --to-datetime 2033-01-01T00:00:00.000 --execute",
    "--group idle --topic orders --by-duration P1D --execute",
    "--group idle --topic orders --by-duration P20000D --execute",
    "--group idle --all-topics --to-earliest --execute",
    "--group idle --topic orders --to-current --execute",
    "--group idle --topic other --to-latest --execute",
    "--group idle --topic nowhere --to-latest --execute",
    "--group idle --topic orders:7 --to-latest --execute",
    "--group nobody --topic orders --to-earliest --execute",
    "--group active --topic orders --to-earliest --execute",
    "--group modern --topic orders --to-earliest --execute",
    "--group idle --group nobody --topic orders --to-latest --execute",
    "--all-groups --topic orders --to-offset 7 --dry-run",
    "--group idle --topic orders --topic other --to-current --export",
    "--group idle --group nobody --topic orders --to-current --export",
];

const DELETE: &[&str] = &[
    "--delete-offsets --group idle --topic other",
    "--delete-offsets --group idle --topic orders:1",
    "--delete-offsets --group idle --topic orders:9",
    "--delete-offsets --group idle --topic nowhere",
    "--delete-offsets --group active --topic orders",
    "--delete-offsets --group active --topic other",
    "--delete-offsets --group modern --topic orders",
    "--delete-offsets --group modern --topic other",
    "--delete-offsets --group missing --topic orders",
    "--describe --group idle",
    "--describe --group active",
    "--delete --group active",
    "--delete --group modern",
    "--delete --group missing",
    "--delete --group nobody",
    "--delete --group idle --group active",
    "--list --state",
    "--delete --all-groups",
];

/// The whole script against one broker.
fn carry_out(bootstrap: &str) -> Result<Vec<(String, Vec<String>)>> {
    fill(bootstrap)?;
    let mut tool = Tool::start(bootstrap)?;
    tool.call("--list")?;
    tool.call("--list --state")?;
    let mut modern = Stage::on_topic(client_of("java-consumer"), bootstrap, "orders");
    let new_member = modern.start(&[("group", "modern")])?;
    let mut stage = Stage::on_topic(client_of("rdkafka"), bootstrap, "orders");
    for (group, instance) in [("idle", None), ("active", Some("static-1"))] {
        let mut options = vec![("group", group)];
        options.extend(instance.map(|name| ("instance", name)));
        let member = stage.start(&options)?;
        stage.wait("60 records", |entries| {
            let own = entries.iter().filter(|(who, _)| *who == member);
            let records = own.filter(|(_, event)| event.kind == Kind::Record);
            (records.count() == 60).then_some(())
        })?;
        if group == "idle" {
            let before = stage.now();
            stage.tell(member, "commit a note")?;
            stage.wait("the commit", |entries| {
                let mut new = entries[before..].iter();
                new.any(|(_, event)| event.kind == Kind::Commit)
                    .then_some(())
            })?;
            stage.close(member)?;
        }
    }
    modern.wait("60 records", |entries| {
        let records = entries
            .iter()
            .filter(|(_, event)| event.kind == Kind::Record);
        (records.count() == 60).then_some(())
    })?;
    modern.tell(new_member, "commit")?;
    modern.wait("the commit", |entries| {
        let mut all = entries.iter();
        all.any(|(_, event)| event.kind == Kind::Commit)
            .then_some(())
    })?;
    for arguments in DESCRIBE {
        tool.call(arguments)?;
    }
    for arguments in RESET {
        tool.call(&format!("--reset-offsets {arguments}"))?;
        tool.call("--describe --group idle")?;
    }
    from_file(&mut tool)?;
    for arguments in DELETE {
        tool.call(arguments)?;
    }
    modern.close(new_member)?;
    tool.call("--describe --group modern")?;
    tool.call("--describe --group modern --state --verbose")?;
    tool.call("--delete --group modern")?;
    stage.close(1)?;
    // A static member stays in the group until its session ends.
    tool.call("--describe --group active --members")?;
    tool.call("--delete --group active")?;
    // At the end, because the reader is a group, too.
    records(&mut tool)?;
    Ok(std::mem::take(&mut tool.said))
}

/// A plan in a file: what was exported, and one that names groups.
fn from_file(tool: &mut Tool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plan = folder.path().join("plan.csv");
    for (groups, text) in [
        ("--group idle", "orders,0,3\norders,1,4\norders,2,500\n"),
        (
            "--group idle --group nobody",
            "idle,orders,0,1\nnobody,orders,2,2\n",
        ),
    ] {
        std::fs::write(&plan, text)?;
        let path = plan.display();
        for mode in ["--dry-run", "--execute"] {
            let call = format!("--reset-offsets {groups} --from-file {path} {mode}");
            let printed = tool.raw("groups", &call)?;
            let mut lines: Vec<String> = printed.lines().map(normal).collect();
            lines.sort();
            tool.said
                .push((format!("{groups} --from-file {mode}"), lines));
        }
        tool.call("--describe --group idle --group nobody")?;
    }
    Ok(())
}

#[test]
fn kafka_consumer_groups_prints_the_same_as_against_apache_kafka() -> Result<()> {
    let compiled = cache().join("clients/java/ToolScript.class").is_file();
    if !compiled || !is_installed("java") {
        let allowed = std::env::var("OTTLA_COMPAT_ALLOW_MISSING").unwrap_or_default();
        let ci = std::env::var_os("CI").is_some_and(|ci| ci != "false" && !ci.is_empty());
        ensure!(
            !ci || allowed.contains("java"),
            "no Java tools: scripts/clients"
        );
        eprintln!("NOT CHECKED: kafka-consumer-groups: no Java tools: scripts/clients");
        return Ok(());
    }
    let (ours, kafkas) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| {
            let broker = Broker::start_apache_kafka(&[])?;
            carry_out(broker.bootstrap()).context("against Apache Kafka")
        });
        let ours =
            Broker::start_ours(|settings| settings.with("group.initial.rebalance.delay.ms", 0))
                .and_then(|broker| carry_out(broker.bootstrap()).context("against Ottla"));
        (ours, kafka.join().expect("no panic"))
    });
    let (ours, kafkas) = (ours?, kafkas?);
    if std::env::var_os("OTTLA_SHOW").is_some() {
        for (call, lines) in &kafkas {
            println!("$ {call}\n{}", lines.join("\n"));
        }
    }
    let mut differences = Vec::new();
    for ((call, ours), (same_call, kafkas)) in ours.iter().zip(&kafkas) {
        ensure!(call == same_call, "{call} is not {same_call}");
        if ours != kafkas {
            let (ours, kafkas) = (ours.join("\n    "), kafkas.join("\n    "));
            differences.push(format!(
                "{call}\n  Ottla:\n    {ours}\n  Kafka:\n    {kafkas}"
            ));
        }
    }
    ensure!(
        differences.is_empty(),
        "{} of {} calls differ:\n{}",
        differences.len(),
        ours.len(),
        differences.join("\n")
    );
    Ok(())
}
