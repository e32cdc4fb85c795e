//! The container image's files held against the code: paths, ports, names and variables agree, and
//! the entry script starts a broker by the contract of Kafka's image.
//!
//! Runs the scripts of `docker/` as they are, outside a container. What only an engine can show
//! (that the layers build, that volumes have the right owner) is not checked here.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ottla_broker::config::load::{Loaded, Sources, key_of_variable};
use ottla_broker::config::{Config, broker_key};

const OTTLA: &str = env!("CARGO_BIN_EXE_ottla");

type Variables = Vec<(String, String)>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// The Dockerfile's instructions as (word, rest), with continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read("docker/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').expect("an instruction has arguments");
            (word.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

fn arguments_of(word: &str) -> Vec<String> {
    let all = instructions().into_iter();
    all.filter(|(one, _)| one == word)
        .map(|(_, rest)| rest)
        .collect()
}

#[test]
fn the_dockerfile_copies_and_runs_only_what_exists() {
    let copies = arguments_of("COPY");
    let mut installed = Vec::new();
    for copy in &copies {
        let words: Vec<&str> = copy.split_whitespace().collect();
        let (target, sources) = words.split_last().unwrap();
        installed.push((*target).to_owned());
        if !sources[0].starts_with("--from") {
            for source in sources {
                assert!(root().join(source).exists(), "COPY {copy}: no {source}");
            }
        }
    }
    let name = Path::new(OTTLA).file_name().unwrap().to_str().unwrap();
    let run = arguments_of("RUN").join(" && ");
    assert!(run.contains(&format!("/release/{name} ")), "{run}");
    assert!(installed.contains(&format!("/usr/local/bin/{name}")));
    for script in run.split(' ').filter(|word| word.starts_with("scripts/")) {
        assert!(root().join(script).exists(), "RUN {script}");
    }
    for command in arguments_of("CMD").into_iter().chain(health_command()) {
        let program = command
            .trim_matches(['[', ']'])
            .trim_matches('"')
            .to_owned();
        let found = installed
            .iter()
            .any(|path| *path == program || path.ends_with(&format!("/{program}")));
        assert!(found, "nothing installs {program}");
    }
}

fn health_command() -> Option<String> {
    let check = arguments_of("HEALTHCHECK").pop()?;
    check
        .split_once("CMD ")
        .map(|(_, command)| command.to_owned())
}

#[test]
fn the_image_builds_with_the_rust_that_the_workspace_asks_for() {
    let manifest = read("Cargo.toml");
    let wanted = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap()
        .trim_matches('"');
    let first = arguments_of("FROM").remove(0);
    assert!(first.starts_with(&format!("rust:{wanted}-")), "{first}");
}

/// What `docker/run` starts with these variables: a program of the same name writes down its
/// arguments and variables instead of being a broker.
fn started_with(file: Option<&str>, given: &[(&str, &str)]) -> (Vec<String>, Variables) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.properties");
    if let Some(text) = file {
        fs::write(&config, text).unwrap();
    }
    let fake = folder.path().join("ottla");
    fs::write(&fake, "#!/bin/sh\nprintf '%s\\n' \"$@\"\necho --\nenv\n").unwrap();
    let made = Command::new("chmod").arg("+x").arg(&fake).status().unwrap();
    assert!(made.success());
    let output = entry(folder.path(), &config, &variables(given))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (arguments, environment) = text.split_once("--\n").unwrap_or((&text, ""));
    let environment = environment.lines().filter_map(|line| line.split_once('='));
    (
        arguments.lines().map(str::to_owned).collect(),
        environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

/// The entry script with nothing in its environment but `PATH` and what is given.
fn entry(program: &Path, config: &Path, given: &Variables) -> Command {
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command
        .arg(root().join("docker/run"))
        .env_clear()
        .env("PATH", format!("{}:{path}", program.display()))
        .env("OTTLA_CONFIG", config)
        .envs(given.iter().cloned());
    command
}

fn configured(file: Option<&str>, environment: Variables) -> Config {
    let sources = Sources {
        file: file.map(|text| ("server.properties".to_owned(), text.to_owned())),
        environment,
        insecure: true,
        hostname: Some("container".to_owned()),
        ..Sources::default()
    };
    let Loaded { config, .. } = sources.load().unwrap();
    config
}

fn shown(listeners: &[impl ToString]) -> Vec<String> {
    listeners.iter().map(ToString::to_string).collect()
}

#[test]
fn without_any_variable_the_exposed_ports_are_open_on_all_interfaces() {
    let (arguments, environment) = started_with(None, &[]);
    assert_eq!(arguments, ["server", "--insecure"]);
    let config = configured(None, environment);
    assert_eq!(shown(&config.listeners), ["PLAINTEXT://:9092"]);
    let advertised = shown(&config.advertised_listeners);
    assert_eq!(advertised, ["PLAINTEXT://localhost:9092"]);
    let ports = [config.listeners[0].port, config.http_listeners[0].port];
    assert!(config.listeners[0].is_wildcard());
    assert_eq!(config.http_listeners[0].bind_host(), "0.0.0.0");
    let exposed: Vec<u16> = arguments_of("EXPOSE")
        .iter()
        .flat_map(|line| line.split_whitespace())
        .map(|port| port.parse().unwrap())
        .collect();
    assert_eq!(exposed, ports);
    let data = config.log_dirs[0].display().to_string();
    assert!(arguments_of("VOLUME")[0].contains(&format!("\"{data}\"")));
}

#[test]
fn an_advertised_listener_alone_decides_what_is_bound() {
    let address = ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://broker:19092");
    let (_, environment) = started_with(None, &[address]);
    let config = configured(None, environment);
    assert_eq!(shown(&config.listeners), ["PLAINTEXT://0.0.0.0:19092"]);
    let advertised = shown(&config.advertised_listeners);
    assert_eq!(advertised, ["PLAINTEXT://broker:19092"]);
}

#[test]
fn a_mounted_file_is_read_and_variables_are_merged_into_it() {
    let file = "listeners = PLAINTEXT://:9192\nadvertised.listeners: PLAINTEXT://b:9192\n\
                log.dirs /data\nnum.partitions=3\n";
    let given = [
        ("KAFKA_LOG_RETENTION_MS", "5000"),
        ("KAFKA_HEAP_OPTS", "-Xmx1G"),
    ];
    let (arguments, environment) = started_with(Some(file), &given);
    assert_eq!(arguments[..2], ["server", "--insecure"]);
    assert_eq!(arguments[2], "--config");
    assert!(arguments[3].ends_with("/server.properties"));
    let config = configured(Some(file), environment);
    assert_eq!(shown(&config.listeners), ["PLAINTEXT://:9192"]);
    assert_eq!(config.log_dirs, [Path::new("/data")]);
    assert_eq!(config.num_partitions, 3);
    assert_eq!(config.topic_defaults.retention_ms, Some(5000));
}

#[test]
fn an_empty_variable_turns_http_off() {
    let (_, environment) = started_with(None, &[("KAFKA_OTTLA_HTTP_LISTENERS", "")]);
    assert!(configured(None, environment).http_listeners.is_empty());
    let no_port = healthy(&[("KAFKA_OTTLA_HTTP_LISTENERS", "")]);
    assert!(no_port.status.success(), "nothing to ask: {no_port:?}");
}

/// The `environment:` of the compose file, read as the two levels of indentation that it has.
fn compose() -> (Variables, Vec<String>) {
    let text = read("docker/compose.yaml");
    assert!(!text.contains('\t'), "YAML is indented by blanks");
    let mut path: Vec<String> = Vec::new();
    let mut environment = Vec::new();
    let mut ports = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = (line.len() - content.len()) / 2;
        assert_eq!((line.len() - content.len()) % 2, 0, "{line}");
        path.truncate(depth);
        if let Some(item) = content.strip_prefix("- ") {
            if path.last().is_some_and(|name| name == "ports") {
                ports.push(item.trim_matches('"').to_owned());
            }
            continue;
        }
        let (name, value) = content.split_once(':').expect(line);
        if path.last().is_some_and(|parent| parent == "environment") {
            environment.push((name.to_owned(), value.trim().trim_matches('"').to_owned()));
        }
        path.push(name.to_owned());
    }
    (environment, ports)
}

#[test]
fn the_compose_file_sets_keys_that_exist_and_publishes_ports_that_are_open() {
    let (environment, ports) = compose();
    assert!(environment.len() >= 4 && ports.len() == 2);
    for (variable, _) in &environment {
        let key = key_of_variable(variable).expect(variable);
        assert!(broker_key(&key).is_some(), "{variable} sets no key: {key}");
    }
    let pairs: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (_, environment) = started_with(None, &pairs);
    let config = configured(None, environment);
    let mut open: Vec<u16> = config.listeners.iter().map(|one| one.port).collect();
    open.extend(config.http_listeners.iter().map(|one| one.port));
    for published in &ports {
        let inside: u16 = published.rsplit(':').next().unwrap().parse().unwrap();
        assert!(open.contains(&inside), "{published}: only {open:?} listen");
    }
    for name in ["context: ..", "dockerfile: docker/Dockerfile"] {
        assert!(read("docker/compose.yaml").contains(name));
    }
}

fn healthy(given: &[(&str, &str)]) -> Output {
    Command::new("bash")
        .arg(root().join("docker/healthy"))
        .envs(given.iter().copied())
        .output()
        .unwrap()
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

struct Started {
    process: Child,
    /// Standard output up to the line that says it is ready.
    said: String,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn start(folder: &Path, given: &Variables) -> Started {
    let program = Path::new(OTTLA).parent().unwrap();
    let mut process = entry(program, &folder.join("no.properties"), given)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("RUNNING") && lines.read_line(&mut said).unwrap() > 0 {}
    // Nobody reads the rest, but the pipe must stay open.
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    Started { process, said }
}

/// What test modules for Kafka's image set, with ports of this test.
fn test_module_variables(folder: &Path, kafka: u16, http: u16) -> Variables {
    let listeners = format!(
        "PLAINTEXT://0.0.0.0:{kafka},BROKER://127.0.0.1:0,CONTROLLER://127.0.0.1:{}",
        free_port()
    );
    let protocols = "BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT";
    let mut given = variables(&[
        ("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw"),
        ("KAFKA_BROKER_ID", "1"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9094"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "BROKER"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", protocols),
        ("KAFKA_LOG_FLUSH_INTERVAL_MESSAGES", "9223372036854775807"),
        ("KAFKA_NODE_ID", "1"),
        ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "1"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
    ]);
    let own: BTreeMap<&str, String> = BTreeMap::from([
        ("KAFKA_LISTENERS", listeners),
        (
            "KAFKA_ADVERTISED_LISTENERS",
            format!("PLAINTEXT://127.0.0.1:{kafka},BROKER://container:9093"),
        ),
        ("KAFKA_LOG_DIRS", folder.join("data").display().to_string()),
        (
            "KAFKA_OTTLA_HTTP_LISTENERS",
            format!("http://127.0.0.1:{http}"),
        ),
    ]);
    given.extend(own.into_iter().map(|(name, value)| (name.into(), value)));
    given
}

#[test]
fn the_variables_of_test_modules_start_a_broker_that_becomes_healthy_and_stops_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let (kafka, http) = (free_port(), free_port());
    let address = format!("http://127.0.0.1:{http}");
    let health = || healthy(&[("KAFKA_OTTLA_HTTP_LISTENERS", &address)]);
    assert!(!health().status.success(), "nothing runs yet");

    let mut broker = start(
        folder.path(),
        &test_module_variables(folder.path(), kafka, http),
    );
    for line in [
        "Transitioning from RECOVERY to RUNNING",
        "Kafka Server started",
    ] {
        assert!(broker.said.contains(line), "{line}: {}", broker.said);
    }
    assert!(health().status.success(), "{:?}", health());
    let listed = Command::new(OTTLA)
        .args(["topic", "create", "orders", "-o", "json", "-b"])
        .arg(format!("127.0.0.1:{kafka}"))
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");

    let id = broker.process.id().to_string();
    let stopped = Command::new("bash")
        .args(["-c", &format!("kill -TERM {id}")])
        .status()
        .unwrap();
    assert!(stopped.success());
    assert!(broker.process.wait().unwrap().success(), "a clean shutdown");
    assert!(!health().status.success(), "and nothing answers any more");
}
