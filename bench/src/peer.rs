//! Brokers that are started for a measurement, from nothing, and ended after it.

use crate::process;
use crate::wire::Client;
use anyhow::{Context as _, Result, bail, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whom to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ottla,
    ApacheKafka,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ottla => "Ottla",
            Kind::ApacheKafka => "Apache Kafka",
        }
    }
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The built `ottla`.
    pub ottla: PathBuf,
    /// `scripts/kafka-server` of the clone.
    pub kafka_server: PathBuf,
    /// Folders of the brokers are made here; it should be on a real disk.
    pub data: PathBuf,
}

/// A running broker.
pub struct Peer {
    pub kind: Kind,
    pub bootstrap: String,
    /// From the start of the process until it serves everything.
    pub ready: Duration,
    child: Child,
    port: u16,
    /// Of its HTTP, or of Kafka's controller.
    second_port: u16,
    folder: TempDir,
    places: Places,
    /// Settings of the broker besides what it needs.
    settings: Vec<String>,
}

/// A port that is free and that the kernel gives to nobody by itself. A port of its own choosing
/// (`bind` to 0) may go to some client's connection before the broker, which starts for seconds if
/// it is Apache Kafka, has bound it.
fn free_port() -> Result<u16> {
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

impl Peer {
    /// Starts a broker on an empty folder and waits until it serves.
    pub fn start(kind: Kind, places: &Places) -> Result<Peer> {
        Peer::start_with(kind, places, &[])
    }

    /// The same with lines of `server.properties`.
    pub fn start_with(kind: Kind, places: &Places, settings: &[&str]) -> Result<Peer> {
        let settings: Vec<String> = settings.iter().map(|line| (*line).to_owned()).collect();
        fs::create_dir_all(&places.data)?;
        let folder = TempDir::with_prefix_in("bench-", &places.data)?;
        let (port, second_port) = (free_port()?, free_port()?);
        if kind == Kind::ApacheKafka {
            // Formatting is a step of its own there, and not part of the start.
            fs::create_dir_all(folder.path())?;
        }
        let started = Instant::now();
        let ports = (port, second_port);
        let child = spawn(kind, places, (folder.path(), ports), &settings)?;
        let mut peer = Peer {
            kind,
            bootstrap: format!("127.0.0.1:{port}"),
            ready: Duration::ZERO,
            child,
            port,
            second_port,
            folder,
            places: places.clone(),
            settings,
        };
        peer.ready = peer.wait_until_ready(started)?;
        Ok(peer)
    }

    /// Starts the process again on the same folder and port.
    pub fn start_again(&mut self) -> Result<Duration> {
        ensure!(self.child.try_wait()?.is_some(), "it is still running");
        let started = Instant::now();
        self.child = spawn(
            self.kind,
            &self.places,
            (self.folder.path(), (self.port, self.second_port)),
            &self.settings,
        )?;
        self.ready = self.wait_until_ready(started)?;
        Ok(self.ready)
    }

    fn wait_until_ready(&mut self, started: Instant) -> Result<Duration> {
        let deadline = started + Duration::from_secs(300);
        loop {
            let answered = Client::connect(&self.bootstrap).and_then(|mut c| c.api_versions());
            if answered.is_ok() && self.serves_everything() {
                return Ok(started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended ({status}):\n{}",
                    self.kind.name(),
                    self.log_tail()
                );
            }
            ensure!(Instant::now() < deadline, "not ready:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ottla answers clients before all its logs are open, Kafka only then.
    fn serves_everything(&self) -> bool {
        if self.kind == Kind::ApacheKafka {
            return true;
        }
        let ask = || -> Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.second_port))?;
            stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status)?;
            Ok(status.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.bootstrap)
    }

    /// Where it keeps its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// A clean shutdown; returns how long it took.
    pub fn stop(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            ensure!(
                started.elapsed() < Duration::from_secs(120),
                "it does not shut down"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(started.elapsed())
    }

    /// CPU-seconds that the broker uses while `work` runs, and that this process uses.
    pub fn cpu_of<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, f64, f64)> {
        let own = std::process::id();
        let before = (
            process::cpu_seconds(self.pid())?,
            process::cpu_seconds(own)?,
        );
        let result = work().with_context(|| self.log_tail())?;
        let after = (
            process::cpu_seconds(self.pid())?,
            process::cpu_seconds(own)?,
        );
        Ok((result, after.0 - before.0, after.1 - before.1))
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        format!("{} said last:\n{}", self.kind.name(), tail.join("\n"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    kind: Kind,
    places: &Places,
    (folder, (port, second_port)): (&Path, (u16, u16)),
    settings: &[String],
) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut command = match kind {
        Kind::Ottla => {
            let config = folder.join("server.properties");
            let text = format!(
                "node.id=1\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
                 ottla.http.listeners=http://127.0.0.1:{second_port}\nlog.dirs={}\n{}\n",
                folder.join("data").display(),
                settings.join("\n"),
            );
            fs::write(&config, text)?;
            let mut command = Command::new(&places.ottla);
            command.args(["server", "--config"]).arg(config);
            command
        }
        Kind::ApacheKafka => {
            let mut command = Command::new(&places.kafka_server);
            command
                .arg(folder)
                .arg(port.to_string())
                .arg(second_port.to_string())
                .args(settings);
            command
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command
        .spawn()
        .with_context(|| format!("cannot start {}: {command:?}", kind.name()))
}
