//! What members said, in the order in which it arrived, and questions about it.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Record,
    /// Partitions were added.
    Assigned,
    /// Partitions were given back.
    Revoked,
    /// Partitions were lost without being asked.
    Lost,
    /// All partitions that the member has from now on, for clients that only know that.
    Assignment,
    /// A commit was acknowledged.
    Commit,
    /// A commit was sent; the client does not tell what became of it.
    Sent,
    /// What is committed.
    Committed,
    /// The answer to the deletion of a group.
    Deleted,
    Error,
    Closed,
    /// The test killed it.
    Killed,
    /// Anything else that it printed.
    Other,
}

/// One event; which fields mean something depends on its kind.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    #[serde(rename = "event")]
    pub kind: Kind,
    #[serde(default)]
    pub partition: i32,
    #[serde(default)]
    pub offset: i64,
    #[serde(default)]
    pub value: String,
    #[serde(default)]
    pub partitions: Vec<i32>,
    #[serde(default)]
    pub offsets: BTreeMap<i32, i64>,
    #[serde(default)]
    pub metadata: BTreeMap<i32, Option<String>>,
    #[serde(default)]
    pub code: i32,
    #[serde(default)]
    pub message: String,
}

impl Event {
    pub fn of(kind: Kind) -> Event {
        Event {
            kind,
            partition: -1,
            offset: -1,
            value: String::new(),
            partitions: Vec::new(),
            offsets: BTreeMap::new(),
            metadata: BTreeMap::new(),
            code: 0,
            message: String::new(),
        }
    }

    /// An event of a member that we wrote, or a line of kcat's.
    fn from_line(line: &str) -> Event {
        if let Ok(event) = serde_json::from_str(line) {
            return event;
        }
        let message = line.to_owned();
        let with = |kind| Event {
            message: message.clone(),
            ..Event::of(kind)
        };
        match line.rsplit_once("): ").map(|(_, rest)| rest) {
            Some(rest) if line.starts_with("% Group ") => {
                let gained = ["): assigned: ", " incremental assignment "];
                let given_back = ["): revoked: ", " incremental revoke "];
                let said = |words: &[&str]| words.iter().any(|words| line.contains(words));
                Event {
                    partitions: kcat_partitions(rest),
                    ..with(match (said(&gained), said(&given_back)) {
                        (true, _) => Kind::Assigned,
                        (_, true) => Kind::Revoked,
                        _ => Kind::Other,
                    })
                }
            }
            _ if line.contains("ERROR") => with(Kind::Error),
            _ => with(Kind::Other),
        }
    }
}

/// The numbers of `topic [0], topic [2]`.
fn kcat_partitions(text: &str) -> Vec<i32> {
    let numbers = text.split('[').skip(1);
    let numbers = numbers.filter_map(|part| part.split(']').next());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Which member, and what happened to it.
pub type Entry = (usize, Event);

/// Everything that was said.
#[derive(Default)]
pub struct Log {
    entries: Mutex<Vec<Entry>>,
    arrived: Condvar,
}

impl Log {
    pub fn add(&self, member: usize, event: Event) {
        self.entries
            .lock()
            .expect("no panic while it is held")
            .push((member, event));
        self.arrived.notify_all();
    }

    pub fn add_line(&self, member: usize, line: &str) {
        // kcat says at every end of a partition that it is there.
        if !line.trim().is_empty() && !line.starts_with("% Reached end of topic") {
            self.add(member, Event::from_line(line));
        }
    }

    pub fn len(&self) -> usize {
        self.read(<[Entry]>::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn read<T>(&self, ask: impl FnOnce(&[Entry]) -> T) -> T {
        ask(&self.entries.lock().expect("no panic while it is held"))
    }

    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        found: impl Fn(&[Entry]) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut entries = self.entries.lock().expect("no panic while it is held");
        loop {
            if let Some(found) = found(&entries) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(entries);
                bail!("not seen in {limit:?}: {what}\n{}", self.tail());
            }
            let waited = self.arrived.wait_timeout(entries, left);
            entries = waited.expect("no panic while it is held").0;
        }
    }

    /// The last events, records left out, for a message about a failure.
    pub fn tail(&self) -> String {
        self.read(|entries| {
            let telling = entries
                .iter()
                .filter(|(_, event)| event.kind != Kind::Record);
            let lines: Vec<String> = telling.map(line).collect();
            let records = entries.len() - lines.len();
            let last = &lines[lines.len().saturating_sub(40)..];
            format!("{records} records and\n{}", last.join("\n"))
        })
    }
}

fn line((member, event): &Entry) -> String {
    let Event {
        kind,
        partitions,
        offsets,
        metadata,
        code,
        message,
        ..
    } = event;
    format!("member {member} {kind:?} {partitions:?} {offsets:?} {metadata:?} {code} {message}")
}

/// The events of a member.
pub(super) fn of(entries: &[Entry], member: usize) -> impl Iterator<Item = &Event> {
    let own = entries.iter().filter(move |(who, _)| *who == member);
    own.map(|(_, event)| event)
}

/// The partitions and offsets that a member was given, in order.
pub(super) fn records(entries: &[Entry], member: usize) -> Vec<(i32, i64)> {
    let records = of(entries, member).filter(|event| event.kind == Kind::Record);
    records
        .map(|event| (event.partition, event.offset))
        .collect()
}

/// The partitions that a member has now, by its own words.
pub(super) fn owned(entries: &[Entry], member: usize) -> BTreeSet<i32> {
    let mut owned = BTreeSet::new();
    for event in of(entries, member) {
        match event.kind {
            Kind::Assigned => owned.extend(&event.partitions),
            Kind::Assignment => owned = event.partitions.iter().copied().collect(),
            Kind::Revoked | Kind::Lost => owned.retain(|p| !event.partitions.contains(p)),
            Kind::Closed | Kind::Killed => owned.clear(),
            _ => {}
        }
    }
    owned
}

/// The first event of a kind of a member.
pub(super) fn first(entries: &[Entry], member: usize, kind: Kind) -> Option<Event> {
    of(entries, member)
        .find(|event| event.kind == kind)
        .cloned()
}

/// Nothing was delivered after a commit past it had been acknowledged.
///
/// Returns how many records were delivered more than once: those that nobody had committed.
pub(super) fn at_least_once(entries: &[Entry]) -> Result<usize> {
    let mut committed = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut again = 0;
    for (member, event) in entries {
        match event.kind {
            Kind::Commit => {
                for (partition, offset) in &event.offsets {
                    let highest = committed.entry(*partition).or_insert(0);
                    *highest = (*offset).max(*highest);
                }
            }
            Kind::Record => {
                let Event {
                    partition, offset, ..
                } = event;
                let below = *committed.get(partition).unwrap_or(&0);
                ensure!(
                    *offset >= below,
                    "member {member} was given {partition}@{offset} after {below} was committed"
                );
                again += usize::from(!seen.insert((*partition, *offset)));
            }
            _ => {}
        }
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64) -> Entry {
        let event = Event {
            partition,
            offset,
            ..Event::of(Kind::Record)
        };
        (0, event)
    }

    fn commit(partition: i32, offset: i64) -> Entry {
        let event = Event {
            offsets: BTreeMap::from([(partition, offset)]),
            ..Event::of(Kind::Commit)
        };
        (0, event)
    }

    #[test]
    fn what_was_committed_must_not_come_again_and_the_rest_may() {
        let mut entries = vec![record(0, 0), record(0, 1), commit(0, 1), record(0, 1)];
        assert_eq!(at_least_once(&entries).unwrap(), 1);
        entries.push(record(0, 0));
        assert!(at_least_once(&entries).is_err());
    }

    #[test]
    fn kcats_own_words_are_understood() {
        let said = "% Group g rebalanced (memberid rdkafka-1): assigned: t [0], t [12]";
        let event = Event::from_line(said);
        assert_eq!(event.kind, Kind::Assigned);
        assert_eq!(event.partitions, [0, 12]);
        let said = "% Group g rebalanced: incremental assignment of 1 partition(s) (memberid m, \
                    COOPERATIVE rebalance protocol): t [3]";
        let event = Event::from_line(said);
        assert_eq!(event.kind, Kind::Assigned);
        assert_eq!(event.partitions, [3]);
        let error = Event::from_line("% ERROR: Topic t error: no offset");
        assert_eq!(error.kind, Kind::Error);
    }
}
