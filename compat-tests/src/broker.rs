//! A broker under test: the built `ottla` on free ports and a folder of its own, or another broker.
//!
//! A broker that was started here is killed when its value is dropped. Its log goes to a file in
//! its folder, and the end of it is part of every error.

use crate::process::{self, root};
use anyhow::{Context as _, Result, bail};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Names another broker to test: `host:port`, or `kafka` for Apache Kafka from its jars.
pub const OTHER_BROKER: &str = "OTTLA_COMPAT_BROKER";

/// A debug build on a busy machine is slow to start; a healthy one needs a fraction of this.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The built binary: `OTTLA_BIN`, or what cargo builds now.
pub fn ottla_binary() -> Result<PathBuf> {
    static BUILT: std::sync::OnceLock<std::result::Result<PathBuf, String>> =
        std::sync::OnceLock::new();
    if let Some(binary) = std::env::var_os("OTTLA_BIN") {
        return Ok(PathBuf::from(binary));
    }
    let built = BUILT.get_or_init(|| build_ottla().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_ottla() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--locked", "-p", "ottla"])
        .current_dir(root());
    let status = build.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the binary does not build");
    }
    // This test lies in target/PROFILE/deps/, the binary beside that folder.
    let test = std::env::current_exe()?;
    let deps = test
        .parent()
        .and_then(Path::parent)
        .context("the test has a folder")?;
    Ok(deps.join("ottla"))
}

/// A port that is free and that the kernel gives to nobody by itself. A port of its own choosing
/// (`bind` to 0) may go to some client's connection before the broker, which starts for seconds if
/// it is Apache Kafka, has bound it.
pub fn free_port() -> Result<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let lowest = range.split_whitespace().next().context("a range")?;
    // A machine that gives away nearly all of them leaves nothing better than chance.
    let end = Some(lowest.parse::<u16>()?).filter(|lowest| *lowest > 11_000);
    let mut rng = StdRng::from_os_rng();
    (0..1_000)
        .map(|_| rng.random_range(10_000..end.unwrap_or(u16::MAX)))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port")
}

/// How a broker is to be started.
#[derive(Clone, Debug)]
pub struct Settings {
    pub folder: PathBuf,
    pub port: u16,
    pub http_port: u16,
    /// Lines of the configuration file that come last and so win.
    pub properties: Vec<(String, String)>,
    /// Environment variables of the process.
    pub environment: Vec<(String, String)>,
    /// Limits the number of descriptors of the process (`ulimit -n`).
    pub descriptors: Option<u32>,
    /// A program and its arguments that the process is started by, such as strace.
    pub starter: Vec<String>,
}

impl Settings {
    pub fn new(folder: &Path) -> Result<Settings> {
        Ok(Settings {
            folder: folder.to_path_buf(),
            port: free_port()?,
            http_port: free_port()?,
            properties: Vec::new(),
            environment: Vec::new(),
            descriptors: None,
            starter: Vec::new(),
        })
    }

    pub fn with(mut self, key: &str, value: impl ToString) -> Settings {
        self.properties.push((key.to_owned(), value.to_string()));
        self
    }

    /// Sets an environment variable of the process.
    pub fn with_env(mut self, key: &str, value: impl ToString) -> Settings {
        self.environment.push((key.to_owned(), value.to_string()));
        self
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    fn write_config(&self) -> Result<PathBuf> {
        let mut text = format!(
            "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:{}\nottla.http.listeners=\
             http://127.0.0.1:{}\nlog.dirs={}\n",
            self.port,
            self.http_port,
            self.data().display()
        );
        for (key, value) in &self.properties {
            text.push_str(&format!("{key}={value}\n"));
        }
        let path = self.folder.join("server.properties");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts the process without waiting for it to be ready.
    pub fn spawn(&self) -> Result<Child> {
        let config = self.write_config()?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let binary = ottla_binary()?;
        let mut command = match self.descriptors {
            None if !self.starter.is_empty() => {
                let mut command = Command::new(&self.starter[0]);
                command.args(&self.starter[1..]).arg(&binary);
                command
            }
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell
                    .arg("-c")
                    .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
                    .arg(&binary);
                shell
            }
            None => Command::new(&binary),
        };
        command.args(["server", "--config"]).arg(config);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))
    }

    /// The broker's log, of all its lives.
    pub fn log_text(&self) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of the broker's log.
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// A running broker.
pub struct Broker {
    settings: Settings,
    child: Option<Child>,
    bootstrap: String,
    /// Keeps the folder for as long as the broker, when it was made for it.
    _folder: Option<tempfile::TempDir>,
}

impl Broker {
    /// The broker that the environment asks for; by default ours, fresh, with changed settings.
    pub fn from_environment(change: impl FnOnce(Settings) -> Settings) -> Result<Broker> {
        match std::env::var(OTHER_BROKER) {
            Ok(bootstrap) if bootstrap != "kafka" => {
                let settings = Settings::new(Path::new("/nonexistent"))?;
                Ok(Broker {
                    settings,
                    child: None,
                    bootstrap,
                    _folder: None,
                })
            }
            _ => Broker::start_fresh(change),
        }
    }

    /// Ours, in a new temporary folder (or Apache Kafka with the same properties, to check the test
    /// itself).
    pub fn start_fresh(change: impl FnOnce(Settings) -> Settings) -> Result<Broker> {
        if std::env::var(OTHER_BROKER).is_ok_and(|kind| kind == "kafka") {
            let settings = change(Settings::new(Path::new("/nonexistent"))?);
            let properties = settings.properties.iter();
            // What is ours alone means nothing there.
            let properties = properties.filter(|(key, _)| !key.starts_with("ottla."));
            return Broker::start_apache_kafka(&properties.cloned().collect::<Vec<_>>());
        }
        Broker::start_ours(change)
    }

    /// Ours, in a new temporary folder, whatever the environment says.
    pub fn start_ours(change: impl FnOnce(Settings) -> Settings) -> Result<Broker> {
        let folder = tempfile::tempdir()?;
        let mut broker = Broker::start(change(Settings::new(folder.path())?))?;
        broker._folder = Some(folder);
        Ok(broker)
    }

    /// Ours, as `settings` say; returns when it serves everything.
    pub fn start(settings: Settings) -> Result<Broker> {
        let mut broker = Broker::begin(settings)?;
        broker.wait_until_ready()?;
        Ok(broker)
    }

    /// The same without waiting for anything.
    pub fn begin(settings: Settings) -> Result<Broker> {
        let child = settings.spawn()?;
        let bootstrap = format!("127.0.0.1:{}", settings.port);
        Ok(Broker {
            settings,
            child: Some(child),
            bootstrap,
            _folder: None,
        })
    }

    /// Until all its partitions are served.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        self.wait_until(|broker| {
            broker
                .http_get("/ready")
                .is_ok_and(|(status, _)| status == 200)
        })
    }

    /// Apache Kafka from its jars, in a new temporary folder.
    pub fn start_apache_kafka(properties: &[(String, String)]) -> Result<Broker> {
        let folder = tempfile::tempdir()?;
        let settings = Settings::new(folder.path())?;
        let mut broker = Broker::start_apache_kafka_in(settings, properties)?;
        broker._folder = Some(folder);
        Ok(broker)
    }

    /// Apache Kafka in the folder and on the port of `settings`; the folder outlives it.
    pub fn start_apache_kafka_in(
        settings: Settings,
        properties: &[(String, String)],
    ) -> Result<Broker> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(settings.log_path())?;
        let mut command = Command::new(root().join("scripts/kafka-server"));
        command.arg(&settings.folder).arg(settings.port.to_string());
        command.arg(settings.http_port.to_string());
        command.args(
            properties
                .iter()
                .map(|(key, value)| format!("{key}={value}")),
        );
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = Some(command.spawn()?);
        let bootstrap = format!("127.0.0.1:{}", settings.port);
        let mut broker = Broker {
            settings,
            child,
            bootstrap,
            _folder: None,
        };
        broker.wait_until(|broker| crate::wire::api_versions(&broker.bootstrap).is_ok())?;
        Ok(broker)
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn is_external(&self) -> bool {
        self.child.is_none()
    }

    fn wait_until(&mut self, ready: impl Fn(&Broker) -> bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !ready(self) {
            if let Some(status) = self.exit_status() {
                bail!("the broker ended ({status}):\n{}", self.settings.log_tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "not ready after {START_LIMIT:?}:\n{}",
                    self.settings.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// How the process ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Fails with the broker's own words when the process has ended.
    pub fn assert_alive(&mut self) -> Result<()> {
        match self.exit_status() {
            Some(status) => bail!("the broker ended ({status}):\n{}", self.settings.log_tail()),
            None => Ok(()),
        }
    }

    /// `kill -9`: nothing in the process runs any more.
    pub fn kill(mut self) -> Result<Settings> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(self.settings.clone())
    }

    /// A clean shutdown, as by Ctrl-C.
    pub fn stop(mut self) -> Result<Settings> {
        let mut child = self
            .child
            .take()
            .context("only a broker of ours is stopped")?;
        process::terminate(&child)?;
        match process::wait(&mut child, Duration::from_secs(30)) {
            Some(status) if status.success() => Ok(self.settings.clone()),
            Some(status) => bail!("shut down with {status}:\n{}", self.settings.log_tail()),
            None => {
                child.kill()?;
                bail!("did not shut down in 30 s:\n{}", self.settings.log_tail())
            }
        }
    }

    pub fn pid(&self) -> Result<u32> {
        let child = self.child.as_ref();
        Ok(child.context("only a broker of ours is measured")?.id())
    }

    /// Resident memory of the process, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.pid()?)
    }

    /// The status and body of a GET on the HTTP listener.
    pub fn http_get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.settings.http_port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        Ok((status.context("no HTTP status")?, body.unwrap_or_default()))
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no VmRSS")?;
    Ok(kib.parse::<u64>()? * 1024)
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
