//! Group requests that no client sends: Kafka's error codes, and nobody else notices.
//!
//! The codes are Apache Kafka's: `OTTLA_COMPAT_BROKER=kafka` runs the same expectations there, in a
//! broker per test; `OTTLA_COMPAT_BROKER=host:port` in one that runs.

use anyhow::{Result, ensure};
use ottla_compat_tests::broker::{Broker, OTHER_BROKER};
use ottla_compat_tests::group_wire::{self as group, Join, Who};
use ottla_compat_tests::groups::neighbour::undisturbed;
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{Bytes, Raw};
use std::time::{Duration, Instant};

const UNKNOWN_SERVER_ERROR: i16 = -1;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const ILLEGAL_GENERATION: i16 = 22;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const REBALANCE_IN_PROGRESS: i16 = 27;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_INSTANCE_ID: i16 = 82;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;

fn started() -> Result<Broker> {
    let broker =
        Broker::from_environment(|settings| settings.with("group.initial.rebalance.delay.ms", 0))?;
    // A broker that is not ours may have it from the test before.
    let _ = client::create_topic(broker.bootstrap(), "t", 1, &[]);
    client::wait_for_topic(broker.bootstrap(), "t")?;
    Ok(broker)
}

fn is_kafka() -> bool {
    std::env::var_os(OTHER_BROKER).is_some()
}

/// Collects what is not as expected, so that one run shows all of it.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.0
                .push(format!("{what}: {found:?}, expected {expected:?}"));
        }
    }

    fn none(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n"));
        Ok(())
    }
}

#[test]
fn strangers_old_generations_and_fenced_members_get_kafkas_codes() -> Result<()> {
    let mut broker = started()?;
    undisturbed(&mut broker, |bootstrap| {
        let mut findings = Findings::default();
        strangers(bootstrap, &mut findings)?;
        generations(bootstrap, &mut findings)?;
        fenced(bootstrap, &mut findings)?;
        findings.none()
    })
}

fn strangers(bootstrap: &str, findings: &mut Findings) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    let raw = &mut raw;
    let nobody = Who::in_group("never-made").member("nobody").generation(5);
    findings.expect(
        "heartbeat, unknown group",
        group::heartbeat(raw, &nobody)?,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "sync, unknown group",
        group::sync(raw, &nobody, &[])?.0,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "leave, unknown group",
        group::leave(raw, &nobody)?,
        (0, Some(UNKNOWN_MEMBER_ID)),
    );
    findings.expect(
        "commit, unknown group",
        group::commit(raw, &nobody, "t", "")?,
        ILLEGAL_GENERATION,
    );
    findings.expect(
        "offset delete, unknown group",
        group::delete_offset(raw, "never-made", "t")?,
        (GROUP_ID_NOT_FOUND, None),
    );
    findings.expect(
        "describe, unknown group",
        group::describe(raw, "never-made")?,
        (0, "Dead".to_owned(), 0),
    );
    let member = group::alone(raw, &Who::in_group("strangers"), &Join::default())?;
    let stranger = member.clone().member("stranger");
    findings.expect(
        "heartbeat, stranger",
        group::heartbeat(raw, &stranger)?,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "sync, stranger",
        group::sync(raw, &stranger, &[])?.0,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "leave, stranger",
        group::leave(raw, &stranger)?,
        (0, Some(UNKNOWN_MEMBER_ID)),
    );
    findings.expect(
        "commit, stranger",
        group::commit(raw, &stranger, "t", "")?,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "commit without a member",
        group::commit(raw, &Who::in_group("strangers"), "t", "")?,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "join, stranger",
        group::join_once(raw, &stranger, &Join::default())?.code,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect("the member goes on", group::heartbeat(raw, &member)?, 0);
    Ok(())
}

fn generations(bootstrap: &str, findings: &mut Findings) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    let raw = &mut raw;
    let member = group::alone(raw, &Who::in_group("generations"), &Join::default())?;
    for (what, generation) in [
        ("older", member.generation - 1),
        ("newer", member.generation + 1),
        ("none", -1),
        ("lowest", i32::MIN),
        ("highest", i32::MAX),
    ] {
        let wrong = member.clone().generation(generation);
        findings.expect(
            &format!("heartbeat, {what}"),
            group::heartbeat(raw, &wrong)?,
            ILLEGAL_GENERATION,
        );
        findings.expect(
            &format!("sync, {what}"),
            group::sync(raw, &wrong, &[])?.0,
            ILLEGAL_GENERATION,
        );
        findings.expect(
            &format!("commit, {what}"),
            group::commit(raw, &wrong, "t", "")?,
            ILLEGAL_GENERATION,
        );
    }
    findings.expect(
        "the member commits",
        group::commit(raw, &member, "t", "")?,
        0,
    );
    Ok(())
}

/// A static member comes back; who it was before is fenced.
fn fenced(bootstrap: &str, findings: &mut Findings) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    let raw = &mut raw;
    let who = Who::in_group("fenced").instance("one");
    let before = group::alone(raw, &who, &Join::default())?;
    let after = group::alone(raw, &who, &Join::default())?;
    ensure!(before.member != after.member, "the same id again");
    let before = before.generation(after.generation);
    findings.expect(
        "heartbeat, fenced",
        group::heartbeat(raw, &before)?,
        FENCED_INSTANCE_ID,
    );
    findings.expect(
        "sync, fenced",
        group::sync(raw, &before, &[])?.0,
        FENCED_INSTANCE_ID,
    );
    findings.expect(
        "commit, fenced",
        group::commit(raw, &before, "t", "")?,
        FENCED_INSTANCE_ID,
    );
    findings.expect(
        "leave, fenced",
        group::leave(raw, &before)?,
        (0, Some(FENCED_INSTANCE_ID)),
    );
    findings.expect(
        "join, fenced",
        group::join_once(raw, &before, &Join::default())?.code,
        FENCED_INSTANCE_ID,
    );
    let unnamed = Who {
        instance: None,
        ..before.clone()
    };
    findings.expect(
        "heartbeat, its old id alone",
        group::heartbeat(raw, &unnamed)?,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect(
        "commit, its old id alone",
        group::commit(raw, &unnamed, "t", "")?,
        UNKNOWN_MEMBER_ID,
    );
    let other = after.clone().instance("two");
    findings.expect(
        "heartbeat, unknown instance",
        group::heartbeat(raw, &other)?,
        UNKNOWN_MEMBER_ID,
    );
    findings.expect("the new one goes on", group::heartbeat(raw, &after)?, 0);
    Ok(())
}

#[test]
fn joins_that_make_no_sense_are_refused_with_kafkas_codes() -> Result<()> {
    let mut broker = started()?;
    undisturbed(&mut broker, |bootstrap| {
        let mut findings = Findings::default();
        let mut raw = Raw::connect(bootstrap)?;
        let raw = &mut raw;
        for session_ms in [5_999, 1_800_001, 0, -1, i32::MIN, i32::MAX] {
            let wanted = Join {
                session_ms,
                ..Join::default()
            };
            let who = Who::in_group("sessions");
            findings.expect(
                &format!("a session of {session_ms} ms"),
                group::join(raw, &who, &wanted)?.code,
                INVALID_SESSION_TIMEOUT,
            );
        }
        let who = Who::in_group("protocols");
        let none = Join {
            protocols: Vec::new(),
            ..Join::default()
        };
        findings.expect(
            "no protocols",
            group::join(raw, &who, &none)?.code,
            INCONSISTENT_GROUP_PROTOCOL,
        );
        let untyped = Join {
            protocol_type: String::new(),
            ..Join::default()
        };
        findings.expect(
            "no protocol type",
            group::join(raw, &who, &untyped)?.code,
            INCONSISTENT_GROUP_PROTOCOL,
        );
        let member = group::alone(raw, &who, &Join::default())?;
        let connect = Join {
            protocol_type: "connect".to_owned(),
            ..Join::default()
        };
        findings.expect(
            "another protocol type",
            group::join(raw, &who, &connect)?.code,
            INCONSISTENT_GROUP_PROTOCOL,
        );
        let elsewhere = Join {
            protocols: vec![("roundrobin".to_owned(), group::subscription("t"))],
            ..Join::default()
        };
        findings.expect(
            "no protocol in common",
            group::join(raw, &who, &elsewhere)?.code,
            INCONSISTENT_GROUP_PROTOCOL,
        );
        findings.expect("the member goes on", group::heartbeat(raw, &member)?, 0);
        group_ids(raw, &mut findings)?;
        findings.none()
    })
}

fn group_ids(raw: &mut Raw, findings: &mut Findings) -> Result<()> {
    let unnamed = Who::in_group("").member("m").generation(1);
    findings.expect(
        "join, no group id",
        group::join_once(raw, &Who::in_group(""), &Join::default())?.code,
        INVALID_GROUP_ID,
    );
    findings.expect(
        "heartbeat, no group id",
        group::heartbeat(raw, &unnamed)?,
        INVALID_GROUP_ID,
    );
    findings.expect(
        "sync, no group id",
        group::sync(raw, &unnamed, &[])?.0,
        INVALID_GROUP_ID,
    );
    findings.expect(
        "leave, no group id",
        group::leave(raw, &unnamed)?.0,
        INVALID_GROUP_ID,
    );
    findings.expect(
        "simple commit, no group id",
        group::commit(raw, &Who::in_group(""), "t", "")?,
        0,
    );
    let huge = "g".repeat(i16::MAX as usize);
    let member = group::alone(raw, &Who::in_group(&huge), &Join::default())?;
    findings.expect("a huge group id", group::commit(raw, &member, "t", "")?, 0);
    findings.expect("it leaves", group::leave(raw, &member)?, (0, Some(0)));
    Ok(())
}

#[test]
fn bytes_that_mean_nothing_are_kept_and_given_back_and_break_nothing() -> Result<()> {
    let mut broker = started()?;
    undisturbed(&mut broker, |bootstrap| {
        let mut findings = Findings::default();
        let mut raw = Raw::connect(bootstrap)?;
        let raw = &mut raw;
        let mut all = vec![
            ("empty", Vec::new()),
            ("short", vec![0]),
            (
                "trailing",
                [&group::subscription("t")[..], b"more"].concat(),
            ),
        ];
        // Apache Kafka 4.3 throws an exception over these and never answers the join.
        if !is_kafka() {
            all.push(("negative", vec![0xff; 64]));
            all.push(("lying", [&[0, 0][..], &i32::MAX.to_be_bytes()].concat()));
            all.push(("noise", (0..=255).collect()));
        }
        for (name, metadata) in all {
            let group_id = format!("malformed-{name}");
            let wanted = Join {
                protocols: vec![("range".to_owned(), metadata.clone())],
                ..Join::default()
            };
            let joined = group::join(raw, &Who::in_group(&group_id), &wanted)?;
            findings.expect(&format!("{name}: join"), joined.code, 0);
            let members = vec![(joined.member.clone(), metadata)];
            findings.expect(&format!("{name}: metadata"), joined.members, members);
            let who = Who::in_group(&group_id)
                .member(&joined.member)
                .generation(joined.generation);
            let noise = [0xfe, 0xff, 0, 1, 2];
            let synced = group::sync(raw, &who, &[(&joined.member, &noise)])?;
            findings.expect(&format!("{name}: assignment"), synced, (0, noise.to_vec()));
            findings.expect(
                &format!("{name}: commit"),
                group::commit(raw, &who, "t", "")?,
                0,
            );
            // What cannot be read may be a subscription to everything.
            findings.expect(
                &format!("{name}: delete an offset"),
                group::delete_offset(raw, &group_id, "t")?,
                (0, Some(GROUP_SUBSCRIBED_TO_TOPIC)),
            );
            findings.expect(
                &format!("{name}: describe"),
                group::describe(raw, &group_id)?,
                (0, "Stable".to_owned(), 1),
            );
        }
        findings.none()
    })
}

#[test]
fn metadata_beyond_all_limits_hurts_its_own_group_only() -> Result<()> {
    let mut broker = started()?;
    undisturbed(&mut broker, |bootstrap| {
        let mut findings = Findings::default();
        let mut raw = Raw::connect(bootstrap)?;
        let raw = &mut raw;
        let small = group::alone(raw, &Who::in_group("notes"), &Join::default())?;
        for (length, code) in [
            (4096, 0),
            (4097, OFFSET_METADATA_TOO_LARGE),
            (i16::MAX as usize, OFFSET_METADATA_TOO_LARGE),
        ] {
            findings.expect(
                &format!("a note of {length} bytes"),
                group::commit(raw, &small, "t", &"n".repeat(length))?,
                code,
            );
        }
        // A good subscription with 10 MB of the client's own data.
        let large = Bytes::default()
            .i16(0)
            .i32(1)
            .string("t")
            .bytes(&vec![7; 10_000_000]);
        let wanted = Join {
            protocols: vec![("range".to_owned(), large.0)],
            ..Join::default()
        };
        let joined = group::join(raw, &Who::in_group("large"), &wanted)?;
        findings.expect("10 MB of metadata: join", joined.code, 0);
        let who = Who::in_group("large")
            .member(&joined.member)
            .generation(joined.generation);
        let (code, _) = group::sync(raw, &who, &[(&joined.member, b"")])?;
        findings.expect("10 MB of metadata: sync", code, UNKNOWN_SERVER_ERROR);
        findings.expect(
            "10 MB of metadata: it has to join again",
            group::heartbeat(raw, &who)?,
            REBALANCE_IN_PROGRESS,
        );
        findings.expect("the small one goes on", group::heartbeat(raw, &small)?, 0);
        findings.none()
    })
}

#[test]
fn a_member_that_never_syncs_is_put_out_and_the_others_go_on() -> Result<()> {
    let mut broker = started()?;
    undisturbed(&mut broker, |bootstrap| {
        let mut leader = Raw::connect(bootstrap)?;
        let mut other = Raw::connect(bootstrap)?;
        let who = Who::in_group("never-syncs");
        let wanted = Join {
            session_ms: 30_000,
            rebalance_ms: 3_000,
            ..Join::default()
        };
        let first = group::alone(&mut leader, &who, &wanted)?;
        // The second joins, the first joins again and leads, and then says nothing more.
        let id = group::join_once(&mut other, &who, &wanted)?.member;
        let second = who.clone().member(&id);
        other.send(&group::join_request(&second, &wanted).framed())?;
        let rejoined = group::join_once(&mut leader, &first, &wanted)?;
        ensure!(rejoined.code == 0, "{rejoined:?}");
        let joined = group::joined(group::receive(&mut other)?)?;
        ensure!(joined.code == 0, "{joined:?}");
        let second = second.generation(joined.generation);
        let began = Instant::now();
        let (code, _) = group::sync(&mut other, &second, &[])?;
        ensure!(
            code == REBALANCE_IN_PROGRESS,
            "sync without the leader: {code}"
        );
        let waited = began.elapsed();
        ensure!(waited > Duration::from_secs(2), "put out after {waited:?}");
        let again = group::join_once(&mut other, &second, &wanted)?;
        ensure!(again.code == 0 && again.leader == id, "{again:?}");
        let second = second.generation(again.generation);
        let (code, assignment) = group::sync(&mut other, &second, &[(&id, b"all")])?;
        ensure!((code, &assignment[..]) == (0, &b"all"[..]), "{code}");
        ensure!(group::heartbeat(&mut leader, &first)? == UNKNOWN_MEMBER_ID);
        ensure!(group::describe(&mut other, "never-syncs")?.2 == 1);
        Ok(())
    })
}

/// What Kafka Connect's workers do: a protocol type of their own, and bytes that only they read.
#[test]
fn workers_of_kafka_connect_share_a_group_of_their_own_type() -> Result<()> {
    let mut broker = started()?;
    undisturbed(&mut broker, |bootstrap| {
        let mut one = Raw::connect(bootstrap)?;
        let mut two = Raw::connect(bootstrap)?;
        let worker = |url: &str| Join {
            protocol_type: "connect".to_owned(),
            protocols: ["sessioned", "compatible", "default"]
                .map(|name| (name.to_owned(), format!("{name} {url}").into_bytes()))
                .into(),
            ..Join::default()
        };
        let who = Who::in_group("connect-cluster");
        let first = group::alone(&mut one, &who, &worker("http://one"))?;
        let id = group::join_once(&mut two, &who, &worker("http://two"))?.member;
        let second = who.clone().member(&id);
        two.send(&group::join_request(&second, &worker("http://two")).framed())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while group::heartbeat(&mut one, &first)? != REBALANCE_IN_PROGRESS {
            ensure!(Instant::now() < deadline, "the first worker hears nothing");
        }
        let leads = group::join_once(&mut one, &first, &worker("http://one"))?;
        let follows = group::joined(group::receive(&mut two)?)?;
        ensure!(
            (leads.code, follows.code) == (0, 0),
            "{leads:?} {follows:?}"
        );
        ensure!(leads.protocol == "sessioned" && leads.leader == first.member);
        let mut told = leads.members.clone();
        told.sort();
        let mut expected = vec![
            (first.member.clone(), b"sessioned http://one".to_vec()),
            (id.clone(), b"sessioned http://two".to_vec()),
        ];
        expected.sort();
        ensure!(told == expected && follows.members.is_empty(), "{told:?}");
        let [first, second] = [&first, &second].map(|who| who.clone().generation(leads.generation));
        two.send(&group::sync_request(&second, &[]).framed())?;
        let tasks: [(&str, &[u8]); 2] = [(&first.member, b"connector"), (&id, b"task 0")];
        let (code, own) = group::sync(&mut one, &first, &tasks)?;
        ensure!((code, &own[..]) == (0, &b"connector"[..]), "{code}");
        let (code, own) = group::synced(group::receive(&mut two)?)?;
        ensure!((code, &own[..]) == (0, &b"task 0"[..]), "{code}");
        ensure!(group::heartbeat(&mut two, &second)? == 0);
        let consumer = group::join(&mut two, &who, &Join::default())?.code;
        ensure!(
            consumer == INCONSISTENT_GROUP_PROTOCOL,
            "a consumer: {consumer}"
        );
        // Nobody subscribes to topics here, so nothing keeps an offset from being deleted.
        ensure!(group::commit(&mut one, &first, "t", "")? == 0);
        let deleted = group::delete_offset(&mut one, "connect-cluster", "t")?;
        ensure!(deleted == (NON_EMPTY_GROUP, None), "{deleted:?}");
        ensure!(group::leave(&mut two, &second)? == (0, Some(0)));
        ensure!(group::heartbeat(&mut one, &first)? == REBALANCE_IN_PROGRESS);
        Ok(())
    })
}

/// The library that makes clocks jump, when it is installed.
fn faketime() -> Option<std::path::PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let mut there = paths.filter(|path| path.is_file());
    there.next()
}

/// The clock on the wall jumps an hour ahead and two back; nobody's session depends on it.
#[test]
fn a_clock_that_jumps_ends_no_session() -> Result<()> {
    let Some(library) = faketime() else {
        eprintln!("NOT CHECKED: clocks that jump: no libfaketime: scripts/setup --all");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0")?;
    let mut broker = Broker::start_ours(|settings| {
        settings
            .with("group.initial.rebalance.delay.ms", 0)
            .with_env("LD_PRELOAD", library.display())
            .with_env("FAKETIME_TIMESTAMP_FILE", offset.display())
            .with_env("FAKETIME_NO_CACHE", 1)
            .with_env("FAKETIME_DONT_FAKE_MONOTONIC", 1)
            .with_env("DONT_FAKE_MONOTONIC", 1)
    })?;
    let appended = [("message.timestamp.type", "LogAppendTime")];
    client::create_topic(broker.bootstrap(), "clock", 1, &appended)?;
    undisturbed(&mut broker, |bootstrap| {
        let mut raw = Raw::connect(bootstrap)?;
        let member = group::alone(&mut raw, &Who::in_group("jumps"), &Join::default())?;
        let jumps = [("+3600", 1), ("-3600", -1), ("+0", 0)];
        for (at, (text, hours)) in (0..).zip(jumps) {
            std::fs::write(&offset, text)?;
            let real_ms = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)?
                .as_millis() as i64;
            client::produce(bootstrap, "clock", 0, &[client::value_record(b"x")], &[])?;
            let record = client::consume(bootstrap, "clock", 0, at, 1)?.remove(0);
            let ahead_ms = record.timestamp_ms.unwrap_or_default() - real_ms;
            ensure!(
                (ahead_ms - hours * 3_600_000).abs() < 600_000,
                "the clock did not jump: {ahead_ms} ms ahead, not {hours} hours"
            );
            for _ in 0..10 {
                let code = group::heartbeat(&mut raw, &member)?;
                ensure!(code == 0, "after a jump by {text} s: {code}");
                std::thread::sleep(Duration::from_millis(150));
            }
            ensure!(group::commit(&mut raw, &member, "clock", "")? == 0);
        }
        Ok(())
    })
}

#[test]
fn thousands_of_pending_members_cost_little_and_go_away() -> Result<()> {
    const PENDING: usize = 20_000;
    let mut broker = started()?;
    // Only a broker that was started here is measured.
    let resident = |pid: Option<u32>| {
        let bytes = pid.and_then(|pid| ottla_compat_tests::broker::resident_bytes(pid).ok());
        bytes.unwrap_or_default()
    };
    let pid = broker.pid().ok();
    let before = resident(pid);
    let mut grown = 0;
    undisturbed(&mut broker, |bootstrap| {
        let mut raw = Raw::connect(bootstrap)?;
        let wanted = Join {
            session_ms: 6_000,
            ..Join::default()
        };
        let who = Who::in_group("pending");
        let request = group::join_request(&who, &wanted).framed();
        let (mut first, mut last) = (None, String::new());
        for _ in 0..PENDING / 50 {
            raw.send(&request.repeat(50))?;
            for _ in 0..50 {
                let joined = group::joined(group::receive(&mut raw)?)?;
                ensure!(joined.code == group::MEMBER_ID_REQUIRED, "{joined:?}");
                last = joined.member;
                first.get_or_insert_with(|| last.clone());
            }
        }
        grown = resident(pid).saturating_sub(before);
        // The last one may still join, and is alone: nobody waits for those who never came back.
        let joined = group::join_once(&mut raw, &who.clone().member(&last), &wanted);
        let member = joined?;
        ensure!(member.code == 0 && member.members.len() == 1, "{member:?}");
        let member = who.member(&last).generation(member.generation);
        ensure!(group::sync(&mut raw, &member, &[(&last, b"")])?.0 == 0);
        let (_, state, members) = group::describe(&mut raw, "pending")?;
        ensure!(members == 1, "{state}, {members} members");
        // The ids are forgotten when the session that they asked for is over.
        std::thread::sleep(Duration::from_millis(7_000));
        let first = Who::in_group("pending").member(&first.unwrap_or_default());
        let late = group::join_once(&mut raw, &first, &wanted)?;
        ensure!(late.code == UNKNOWN_MEMBER_ID, "{late:?}");
        Ok(())
    })?;
    println!("{PENDING} pending members: {grown} bytes");
    ensure!(
        is_kafka() || grown < 64 << 20,
        "memory grew by {grown} bytes"
    );
    Ok(())
}
