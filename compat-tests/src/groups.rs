//! Group members in processes of their own, told what to do, and the log of what they report.
//!
//! A member is a small program of `compat-tests/clients/` around an unmodified client: it prints a
//! line of JSON for everything that happens to it and obeys lines on its standard input. All
//! judgement is here: the scenarios ([`scenarios`]) are the same for every client ([`clients`]).
//! Nothing here knows a protocol; what the broker has is asked through the Rust client.

pub mod clients;
mod load;
mod log;
pub mod neighbour;
pub mod scenarios;

pub use load::Load;
pub use log::{Entry, Event, Kind, Log};

use crate::process;
use crate::rust_client as client;
use anyhow::{Context as _, Result, bail};
use clients::GroupClient;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A rebalance of a healthy broker takes a fraction of this, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The session timeout of members where nobody dies for good: longer than a JVM takes to come back
/// on a machine that has much else to do.
const SESSION_MS: &str = "60000";
const HEARTBEAT_MS: &str = "400";

/// One scenario under way: a topic, the members that were started, and what they said.
pub struct Stage<'a> {
    pub client: &'static GroupClient,
    pub bootstrap: &'a str,
    pub topic: String,
    pub group: String,
    pub log: Arc<Log>,
    members: Vec<Member>,
}

struct Member {
    child: Child,
    stdin: Option<ChildStdin>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl<'a> Stage<'a> {
    /// A stage with a new topic of `partitions`; `name` keeps it apart from other scenarios.
    pub fn new(
        client: &'static GroupClient,
        bootstrap: &'a str,
        name: &str,
        partitions: i32,
    ) -> Result<Stage<'a>> {
        let prefix = format!("{}-{name}-{}", client.name, std::process::id());
        let topic = format!("{prefix}-topic");
        client::create_topic(bootstrap, &topic, partitions, &[])?;
        // Some clients take "not yet" for "never".
        client::wait_for_topic(bootstrap, &topic)?;
        Ok(Stage {
            client,
            bootstrap,
            topic,
            group: format!("{prefix}-group"),
            log: Arc::default(),
            members: Vec::new(),
        })
    }

    /// A stage with a topic that is there already.
    pub fn on_topic(client: &'static GroupClient, bootstrap: &'a str, topic: &str) -> Stage<'a> {
        Stage {
            client,
            bootstrap,
            topic: topic.to_owned(),
            group: format!("{topic}-group"),
            log: Arc::default(),
            members: Vec::new(),
        }
    }

    /// Starts a member with options (`reset=earliest`), which win over the usual ones.
    pub fn start(&mut self, options: &[(&str, &str)]) -> Result<usize> {
        let mut all = BTreeMap::from([
            ("bootstrap", self.bootstrap),
            ("topic", &self.topic),
            ("group", &self.group),
            ("reset", "earliest"),
            ("session_ms", SESSION_MS),
            ("heartbeat_ms", HEARTBEAT_MS),
            ("commit", "manual"),
        ]);
        all.extend(self.client.options.iter().copied());
        all.extend(options.iter().copied());
        let mut command = (self.client.command)(&all);
        let member = Member::start(&mut command, self.members.len(), &self.log)?;
        self.members.push(member);
        Ok(self.members.len() - 1)
    }

    /// Tells a member something; it answers with an event.
    pub fn tell(&mut self, member: usize, command: &str) -> Result<()> {
        let stdin = self.members[member].stdin.as_mut();
        let stdin = stdin.context("the member was ended before")?;
        writeln!(stdin, "{command}").with_context(|| format!("member {member} is gone"))
    }

    /// Waits until `found` finds something in what has been said.
    pub fn wait<T>(&self, what: &str, found: impl Fn(&[Entry]) -> Option<T>) -> Result<T> {
        self.log.wait(what, LIMIT, found)
    }

    /// How many events there have been: a place to look from.
    pub fn now(&self) -> usize {
        self.log.len()
    }

    /// The member leaves as its client does at the end of a program.
    pub fn close(&mut self, member: usize) -> Result<()> {
        if self.client.closes_by_signal {
            process::terminate(&self.members[member].child)?;
        } else {
            self.tell(member, "close")?;
        }
        let status = process::wait(&mut self.members[member].child, LIMIT);
        let status = status.with_context(|| format!("member {member} does not end"))?;
        self.members[member].join();
        if !status.success() {
            bail!("member {member} ended with {status}:\n{}", self.log.tail());
        }
        self.log.add(member, Event::of(Kind::Closed));
        Ok(())
    }

    /// `kill -9`: it leaves no word.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].kill();
        self.log.add(member, Event::of(Kind::Killed));
        Ok(())
    }

    /// What is committed in the group, with metadata, as another client sees it.
    pub fn committed(&self) -> Result<BTreeMap<i32, (i64, String)>> {
        client::committed(self.bootstrap, &self.group, &self.topic)
    }

    /// Waits until the broker says that `offset` of partition 0 is committed.
    pub fn wait_committed(&self, offset: i64) -> Result<String> {
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            match self.committed()?.get(&0) {
                Some((found, metadata)) if *found == offset => return Ok(metadata.clone()),
                found if std::time::Instant::now() > deadline => {
                    bail!("committed {found:?}, not {offset}:\n{}", self.log.tail())
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Appends records to partition 0, `count` of them.
    pub fn produce(&self, count: usize) -> Result<()> {
        let records = vec![client::value_record(b"value"); count];
        client::produce(self.bootstrap, &self.topic, 0, &records, &[])?;
        Ok(())
    }
}

impl Member {
    fn start(command: &mut Command, index: usize, log: &Arc<Log>) -> Result<Member> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|pipe| Box::new(pipe) as _),
            child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        let readers = outputs.into_iter().flatten().map(|pipe| {
            let log = Arc::clone(log);
            std::thread::spawn(move || {
                let mut lines = BufReader::new(pipe).split(b'\n');
                while let Some(Ok(line)) = lines.next() {
                    log.add_line(index, &String::from_utf8_lossy(&line));
                }
            })
        });
        Ok(Member {
            readers: readers.collect(),
            stdin: child.stdin.take(),
            child,
        })
    }

    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stdin = None;
        self.join();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
