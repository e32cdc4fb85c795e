//! What every group member is asked to do: the columns of the second matrix.
//!
//! The clients differ, the scenarios do not. Each waits for what must happen and then looks through
//! everything that was said for what must not.

use super::log::{Entry, Kind, at_least_once, first, of, owned, records};
use super::{LIMIT, Load, Stage};
use crate::rust_client as client;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupScenario {
    Start,
    Resume,
    Metadata,
    SeekTime,
    Rebalance,
    Static,
    Cooperative,
    Killed,
    Deleted,
}

impl GroupScenario {
    pub const ALL: [GroupScenario; 9] = [
        GroupScenario::Start,
        GroupScenario::Resume,
        GroupScenario::Metadata,
        GroupScenario::SeekTime,
        GroupScenario::Rebalance,
        GroupScenario::Static,
        GroupScenario::Cooperative,
        GroupScenario::Killed,
        GroupScenario::Deleted,
    ];

    /// The name in test names and on the page.
    pub fn name(self) -> &'static str {
        match self {
            GroupScenario::Start => "start",
            GroupScenario::Resume => "resume",
            GroupScenario::Metadata => "note",
            GroupScenario::SeekTime => "seek_time",
            GroupScenario::Rebalance => "rebalance",
            GroupScenario::Static => "static",
            GroupScenario::Cooperative => "cooperative",
            GroupScenario::Killed => "killed",
            GroupScenario::Deleted => "deleted",
        }
    }

    /// What is done and checked, for the page.
    pub fn description(self) -> &'static str {
        match self {
            GroupScenario::Start => {
                "without committed offsets: earliest, latest and, where the client has it, none \
                 (an error)"
            }
            GroupScenario::Resume => {
                "what was committed is not read again, what was read and not committed is"
            }
            GroupScenario::Metadata => {
                "a note committed with an offset comes back, to the client and to another one"
            }
            GroupScenario::SeekTime => "start at a time: the first record at or after it",
            GroupScenario::Rebalance => {
                "members join and leave while a producer goes on: nothing is lost, nothing comes \
                 again after its commit was acknowledged"
            }
            GroupScenario::Static => {
                "a static member is killed and comes back within its session, first the follower, \
                 then the leader: same partitions, and the other member notices nothing"
            }
            GroupScenario::Cooperative => {
                "a second member joins and leaves: only the partitions that move are revoked"
            }
            GroupScenario::Killed => {
                "kill -9: the other member goes on with all partitions after the session timeout, \
                 not before; nothing is lost"
            }
            GroupScenario::Deleted => {
                "a group with members is not deleted (NON_EMPTY_GROUP), one without is, a second \
                 time is GROUP_ID_NOT_FOUND; then the group starts from nothing"
            }
        }
    }

    pub fn run(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            GroupScenario::Start => start(stage),
            GroupScenario::Resume => resume(stage),
            GroupScenario::Metadata => metadata(stage),
            GroupScenario::SeekTime => seek_time(stage),
            GroupScenario::Rebalance => rebalance(stage),
            GroupScenario::Static => static_members(stage),
            GroupScenario::Cooperative => cooperative(stage),
            GroupScenario::Killed => killed(stage),
            GroupScenario::Deleted => deleted(stage),
        }
    }

    /// How many partitions the topic of the scenario has.
    pub fn partitions(self) -> i32 {
        match self {
            GroupScenario::Rebalance
            | GroupScenario::Static
            | GroupScenario::Cooperative
            | GroupScenario::Killed => 4,
            _ => 1,
        }
    }
}

const NON_EMPTY_GROUP: i32 = 68;
const GROUP_ID_NOT_FOUND: i32 = 69;

/// Waits until a member has been given so many records; the offsets of partition 0.
fn offsets(stage: &Stage<'_>, member: usize, count: usize) -> Result<Vec<i64>> {
    stage.wait(&format!("member {member} has {count} records"), |entries| {
        let records = records(entries, member);
        (records.len() >= count).then(|| records.iter().map(|(_, offset)| *offset).collect())
    })
}

fn start(stage: &mut Stage<'_>) -> Result<()> {
    stage.produce(10)?;
    let group = stage.group.clone();
    let earliest = stage.start(&[("reset", "earliest")])?;
    let latest = stage.start(&[("reset", "latest"), ("group", &format!("{group}-latest"))])?;
    if stage.client.has_none {
        let none = stage.start(&[("reset", "none"), ("group", &format!("{group}-none"))])?;
        stage.wait("reset=none is an error", |entries| {
            first(entries, none, Kind::Error)
        })?;
        let given = stage.log.read(|entries| records(entries, none));
        ensure!(given.is_empty(), "reset=none was given {given:?}");
    }
    ensure!(offsets(stage, earliest, 10)?.into_iter().eq(0..10));
    // Nobody tells when the newcomer has found the end: go on until something comes.
    let deadline = Instant::now() + LIMIT;
    while stage
        .log
        .read(|entries| records(entries, latest).is_empty())
    {
        ensure!(
            Instant::now() < deadline,
            "reset=latest got nothing:\n{}",
            stage.log.tail()
        );
        stage.produce(1)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    let found = offsets(stage, latest, 1)?;
    ensure!(found[0] >= 10, "reset=latest began at {}", found[0]);
    ensure!(found.windows(2).all(|pair| pair[1] == pair[0] + 1));
    stage.close(earliest)?;
    stage.close(latest)
}

fn resume(stage: &mut Stage<'_>) -> Result<()> {
    stage.produce(10)?;
    let member = stage.start(&[])?;
    ensure!(offsets(stage, member, 10)?.into_iter().eq(0..10));
    let expected = if stage.client.commits_when_told {
        stage.tell(member, "commit")?;
        stage.wait_committed(10)?;
        stage.produce(5)?;
        offsets(stage, member, 15)?;
        10
    } else {
        stage.wait_committed(10)?;
        stage.produce(5)?;
        offsets(stage, member, 15)?;
        15
    };
    stage.close(member)?;
    stage.produce(1)?;
    let next = stage.start(&[])?;
    let found = offsets(stage, next, usize::try_from(16 - expected)?)?;
    ensure!(
        found.iter().copied().eq(expected..16),
        "resumed with {found:?}"
    );
    stage.close(next)
}

fn metadata(stage: &mut Stage<'_>) -> Result<()> {
    let note = "line 7, ключ ✓";
    stage.produce(10)?;
    let member = stage.start(&[])?;
    offsets(stage, member, 10)?;
    stage.tell(member, &format!("commit {note}"))?;
    // confluent-kafka sends the zero along that ends a string in C.
    let found = stage.wait_committed(10)?;
    let found = found.trim_end_matches('\0');
    ensure!(found == note, "another client sees {found:?}");
    if stage.client.reads_notes {
        stage.tell(member, "committed")?;
        let there = stage.wait("what is committed", |entries| {
            first(entries, member, Kind::Committed)
        })?;
        ensure!(there.offsets.get(&0) == Some(&10), "{there:?}");
        ensure!(
            there.metadata.get(&0) == Some(&Some(note.to_owned())),
            "{there:?}"
        );
    }
    stage.close(member)
}

fn seek_time(stage: &mut Stage<'_>) -> Result<()> {
    let base_ms = client::an_hour_ago_ms();
    for index in 0..10 {
        let mut record = client::value_record(b"x");
        record.timestamp_ms = Some(base_ms + index * 1000);
        client::produce(stage.bootstrap, &stage.topic, 0, &[record], &[])?;
    }
    let member = stage.start(&[("seek_ms", &(base_ms + 4500).to_string())])?;
    // Some clients can seek only after they have started from where they would.
    let found = stage.wait("the end", |entries| {
        let found = records(entries, member);
        let after = found.iter().rposition(|(_, offset)| *offset == 5)?;
        (found.len() - after == 5).then(|| found[after..].to_vec())
    })?;
    ensure!(
        found.iter().map(|(_, offset)| *offset).eq(5..10),
        "{found:?}"
    );
    let all = stage.log.read(|entries| records(entries, member));
    ensure!(all.len() < 10, "it read from the start: {all:?}");
    stage.close(member)
}

/// Waits until a member is given records that were said after `from`.
fn wait_busy(stage: &Stage<'_>, member: usize, from: usize) -> Result<()> {
    stage.wait(&format!("member {member} is given records"), |entries| {
        (!records(&entries[from..], member).is_empty()).then_some(())
    })
}

/// Everything up to the ends was given to somebody.
fn wait_complete(stage: &Stage<'_>, ends: &[i64]) -> Result<()> {
    let total = usize::try_from(ends.iter().sum::<i64>())?;
    let all = |entries: &[Entry]| -> BTreeSet<(i32, i64)> {
        let events = entries
            .iter()
            .filter(|(_, event)| event.kind == Kind::Record);
        events
            .map(|(_, event)| (event.partition, event.offset))
            .collect()
    };
    stage.wait(&format!("all of {ends:?}"), |entries| {
        (all(entries).len() == total).then_some(())
    })
}

/// What was committed did not come again, as far as the client can promise it.
fn nothing_committed_again(stage: &Stage<'_>) -> Result<()> {
    let checked = stage.log.read(at_least_once);
    if stage.client.strict {
        checked?;
    }
    Ok(())
}

/// A member leaves while records come; one that drops what it has in hand, when there are none.
fn leave(stage: &mut Stage<'_>, load: &Load, member: usize) -> Result<()> {
    if stage.client.closes_by_signal {
        wait_complete(stage, &load.pause()?)?;
    }
    stage.close(member)?;
    load.go_on();
    Ok(())
}

fn rebalance(stage: &mut Stage<'_>) -> Result<()> {
    let load = Load::start(stage.bootstrap, &stage.topic, 4);
    let batch = [("commit", "batch")];
    let a = stage.start(&batch)?;
    wait_busy(stage, a, 0)?;
    let b = stage.start(&batch)?;
    wait_busy(stage, b, 0)?;
    wait_busy(stage, a, stage.now())?;
    let c = stage.start(&batch)?;
    wait_busy(stage, c, 0)?;
    leave(stage, &load, b)?;
    // The one that was first leaves, too; the last one has everything.
    wait_busy(stage, a, stage.now())?;
    leave(stage, &load, a)?;
    let from = stage.now();
    stage.wait("the last member has all partitions", |entries| {
        let partitions = records(&entries[from..], c).into_iter().map(|(p, _)| p);
        (partitions.collect::<BTreeSet<_>>().len() == 4).then_some(())
    })?;
    wait_complete(stage, &load.stop()?)?;
    stage.close(c)?;
    nothing_committed_again(stage)
}

/// Both members have two partitions each, by their own words.
fn wait_shared(stage: &Stage<'_>, a: usize, b: usize) -> Result<[BTreeSet<i32>; 2]> {
    stage.wait(&format!("members {a} and {b} share"), |entries| {
        let both = [owned(entries, a), owned(entries, b)];
        let shared = both.iter().all(|own| own.len() == 2) && both[0].is_disjoint(&both[1]);
        shared.then_some(both)
    })
}

/// Changes of a member's partitions since `from`.
fn changes(stage: &Stage<'_>, member: usize, from: usize) -> Vec<(Kind, Vec<i32>)> {
    let is_change = |kind: Kind| {
        matches!(
            kind,
            Kind::Assigned | Kind::Revoked | Kind::Lost | Kind::Assignment
        )
    };
    stage.log.read(|entries| {
        let events = of(&entries[from..], member).filter(|event| is_change(event.kind));
        events
            .map(|event| (event.kind, event.partitions.clone()))
            .collect()
    })
}

fn static_members(stage: &mut Stage<'_>) -> Result<()> {
    let names = [[("instance", "first")], [("instance", "second")]];
    let mut leader = stage.start(&names[0])?;
    stage.wait("the first member has all", |entries| {
        (owned(entries, leader).len() == 4).then_some(())
    })?;
    let mut follower = stage.start(&names[1])?;
    let [first, second] = wait_shared(stage, leader, follower)?;
    for (name, before) in [(&names[1], second), (&names[0], first)] {
        let (gone, stays) = if name == &names[1] {
            (follower, leader)
        } else {
            (leader, follower)
        };
        // Nothing of what was before is still under way.
        std::thread::sleep(Duration::from_millis(500));
        let from = stage.now();
        if stage.client.has_new_protocol() {
            // It says that it will be back; a name that was not given up is refused.
            stage.close(gone)?;
        } else {
            stage.kill(gone)?;
        }
        let back = stage.start(name)?;
        stage.wait("the static member has its partitions again", |entries| {
            (owned(entries, back) == before).then_some(())
        })?;
        std::thread::sleep(Duration::from_millis(1000));
        let noticed = changes(stage, stays, from);
        let joins_twice = gone == leader && !stage.client.quiet_leader;
        ensure!(
            joins_twice || noticed.is_empty(),
            "the other member noticed {noticed:?}:\n{}",
            stage.log.tail()
        );
        if gone == follower {
            follower = back;
        } else {
            leader = back;
        }
    }
    stage.close(follower)?;
    stage.close(leader)
}

fn cooperative(stage: &mut Stage<'_>) -> Result<()> {
    let options = [("assignor", "cooperative"), ("commit", "batch")];
    let load = Load::start(stage.bootstrap, &stage.topic, 4);
    let a = stage.start(&options)?;
    stage.wait("the first member has all", |entries| {
        (owned(entries, a).len() == 4).then_some(())
    })?;
    wait_busy(stage, a, 0)?;
    let from = stage.now();
    let b = stage.start(&options)?;
    let [kept, moved] = wait_shared(stage, a, b)?;
    let touched = changes(stage, a, from);
    let touched = touched.into_iter().flat_map(|(_, partitions)| partitions);
    ensure!(
        touched.collect::<BTreeSet<i32>>() == moved,
        "{kept:?} stayed, and yet:\n{}",
        stage.log.tail()
    );
    wait_busy(stage, a, stage.now())?;
    wait_busy(stage, b, stage.now())?;
    let from = stage.now();
    leave(stage, &load, b)?;
    stage.wait("the first member has all again", |entries| {
        (owned(entries, a).len() == 4).then_some(())
    })?;
    let changed = changes(stage, a, from);
    ensure!(
        !changed
            .iter()
            .any(|(kind, partitions)| *kind == Kind::Revoked && !partitions.is_empty()),
        "something was revoked when the other left: {changed:?}"
    );
    wait_complete(stage, &load.stop()?)?;
    stage.close(a)?;
    nothing_committed_again(stage)
}

/// The shortest session timeout that Kafka allows by default.
const SHORT_SESSION: Duration = Duration::from_secs(6);
/// The session timeout of all members where the broker sets it; a JVM must come back within it.
pub const BROKERS_SESSION: Duration = Duration::from_secs(20);

fn killed(stage: &mut Stage<'_>) -> Result<()> {
    let load = Load::start(stage.bootstrap, &stage.topic, 4);
    let session = if stage.client.has_new_protocol() {
        BROKERS_SESSION
    } else {
        SHORT_SESSION
    };
    let session_ms = session.as_millis().to_string();
    let options = [("session_ms", session_ms.as_str()), ("commit", "batch")];
    let a = stage.start(&options)?;
    wait_busy(stage, a, 0)?;
    let b = stage.start(&options)?;
    wait_busy(stage, b, 0)?;
    wait_busy(stage, a, stage.now())?;
    // Until both are settled, records may still come from what b has before a gave it up.
    std::thread::sleep(Duration::from_millis(1000));
    let of_a = stage.log.read(|entries| {
        let last = records(entries, a).into_iter().rev().take(20);
        last.map(|(partition, _)| partition)
            .collect::<BTreeSet<_>>()
    });
    let killed_at = Instant::now();
    stage.kill(a)?;
    let from = stage.now();
    stage.wait("the other member has all partitions", |entries| {
        let partitions = records(&entries[from..], b).into_iter().map(|(p, _)| p);
        (partitions.collect::<BTreeSet<_>>().is_superset(&of_a)).then_some(())
    })?;
    let after = killed_at.elapsed();
    // The last heartbeat was up to an interval before the end; a busy machine may delay more.
    ensure!(
        after > session / 2 || !stage.client.strict,
        "partitions moved {after:?} after the kill, before the session had ended"
    );
    wait_complete(stage, &load.stop()?)?;
    stage.close(b)?;
    nothing_committed_again(stage)
}

/// Deletes the group of the stage by the client's own admin call, or by another client's.
fn delete(stage: &mut Stage<'_>, member: usize) -> Result<i32> {
    if !stage.client.deletes_groups {
        return client::delete_group(stage.bootstrap, &stage.group);
    }
    let from = stage.now();
    let command = format!("delete {}", stage.group);
    stage.tell(member, &command)?;
    let answer = stage.wait("an answer to the deletion", |entries| {
        first(&entries[from..], member, Kind::Deleted)
    })?;
    Ok(answer.code)
}

fn deleted(stage: &mut Stage<'_>) -> Result<()> {
    stage.produce(10)?;
    let member = stage.start(&[])?;
    offsets(stage, member, 10)?;
    if stage.client.commits_when_told {
        stage.tell(member, "commit")?;
    }
    stage.wait_committed(10)?;
    let other_group = format!("{}-other", stage.group);
    let other = stage.start(&[("group", &other_group)])?;
    offsets(stage, other, 10)?;
    let code = delete(stage, other)?;
    ensure!(code == NON_EMPTY_GROUP, "deleted with a member: {code}");
    stage.close(member)?;
    let code = delete(stage, other)?;
    ensure!(code == 0, "not deleted: {code}");
    let code = delete(stage, other)?;
    ensure!(code == GROUP_ID_NOT_FOUND, "deleted twice: {code}");
    ensure!(stage.committed()?.is_empty(), "its offsets are still there");
    let again = stage.start(&[])?;
    ensure!(offsets(stage, again, 10)?.into_iter().eq(0..10));
    stage.close(other)?;
    stage.close(again)
}
