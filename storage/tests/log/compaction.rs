//! Compaction against a model that knows every record ever written: of each key the last one stays,
//! nothing comes back, tombstones go by the rules, and the producers' state is what it was. Random
//! histories, every crash point, readers and writers beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_protocol::batch::{BatchBuilder, BatchHeader, Compression, RecordBatch, RecordBatchView};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset, ProducerId, TopicId};
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, Operation};
use ottla_storage::disk::{Budget, Disk, MemoryDisk, RealDisk};
use ottla_storage::log::compact::{
    Cleanable, CompactionError, CompactionLimits, CompactionPolicy, CompactionStats, LogAccess,
    compact,
};
use ottla_storage::log::{
    AppendAt, Log, LogConfig, LogError, OldFiles, OpenLog, Origin, ProducerEntry,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::world::read_all;

const DIR: &str = "t-0";
const DELETE_RETENTION_MS: i64 = 500;

/// What becomes of a record's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

#[derive(Clone, Debug)]
struct Written {
    entry: Entry,
    producer: i64,
    fate: Fate,
}

/// A log behind a lock, as a broker has it.
struct Shared(Mutex<Option<Log>>);

impl LogAccess for Shared {
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.0.lock().as_mut().map(f)
    }
}

struct World {
    disk: MemoryDisk,
    log: Shared,
    config: LogConfig,
    rng: StdRng,
    now_ms: i64,
    /// Every record of the log by its offset; control records are not in it.
    model: BTreeMap<i64, Written>,
    /// What a reader may still find.
    alive: BTreeSet<i64>,
    /// Tombstones that may be gone: when a round first saw them as the last of their key.
    marked: BTreeMap<i64, i64>,
    end: i64,
    flushed: i64,
    saved: OpenLog,
    saved_compacted_to: Offset,
    sequences: BTreeMap<i64, i32>,
    rounds: u64,
    /// Some rounds get a table that is too small.
    small_maps: bool,
    /// Batches were lost or cut off after a round.
    lost: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = LogConfig {
            segment_size_bytes: rng.random_range(600..2_500),
            index_interval_bytes: rng.random_range(0..300),
            timestamp_after_max_ms: i64::MAX,
            ..LogConfig::default()
        };
        let disk = MemoryDisk::with_seed(seed);
        let id = TopicId(Uuid::from_u128(u128::from(seed) + 1));
        let log = Log::create(Arc::new(disk.clone()), DIR, id, config.clone()).unwrap();
        World {
            disk,
            log: Shared(Mutex::new(Some(log))),
            config,
            rng,
            now_ms: 1_000_000,
            model: BTreeMap::new(),
            alive: BTreeSet::new(),
            marked: BTreeMap::new(),
            end: 0,
            flushed: 0,
            saved: OpenLog {
                recovery_point: Offset(0),
                log_start_offset: Offset(0),
                clean: false,
                synced: false,
            },
            saved_compacted_to: Offset(0),
            sequences: BTreeMap::new(),
            rounds: 0,
            small_maps: false,
            lost: false,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Log) -> T) -> T {
        self.log.with_log(f).unwrap()
    }

    fn open_transactions(&self) -> BTreeSet<i64> {
        let open = self
            .model
            .values()
            .filter(|one| one.fate == Fate::Open)
            .map(|one| one.producer);
        open.collect()
    }

    fn builder(&mut self) -> BatchBuilder {
        let codec = match self.rng.random_range(0..10) {
            0 => Compression::Lz4,
            1 => Compression::Zstd,
            2 => Compression::Gzip,
            3 => Compression::Snappy,
            _ => Compression::None,
        };
        BatchBuilder::new().compression(codec)
    }

    fn fill(&mut self, builder: &mut BatchBuilder) -> Vec<Entry> {
        self.now_ms += self.rng.random_range(0..20);
        let count = self.rng.random_range(1..5);
        let mut entries = Vec::new();
        for _ in 0..count {
            let timestamp = self.now_ms - self.rng.random_range(0..30);
            let key = match self.rng.random_range(0..20) {
                0 => None,
                1 => Some(vec![]),
                key => Some(vec![b'k', key % 12]),
            };
            let value = match self.rng.random_bool(0.2) {
                true => None,
                false => {
                    let mut value = vec![7; self.rng.random_range(0..120)];
                    value.extend_from_slice(&self.end.to_be_bytes());
                    Some(value)
                }
            };
            let header: &[(&[u8], Option<&[u8]>)] = match self.rng.random_bool(0.1) {
                true => &[(b"h", Some(b"1")), (b"h", None)],
                false => &[],
            };
            builder.append(timestamp, key.as_deref(), value.as_deref(), header);
            entries.push(Entry {
                key,
                value,
                timestamp,
            });
        }
        entries
    }

    fn push(&mut self, batch: RecordBatch, origin: Origin) {
        let at = AppendAt {
            leader_epoch: LeaderEpoch(0),
            now_ms: self.now_ms,
            origin,
        };
        let appended = self.with(|log| log.append(batch, &at)).unwrap();
        assert_eq!(appended.base_offset.0, self.end);
        self.end = appended.last_offset.0 + 1;
    }

    fn note(&mut self, entries: Vec<Entry>, producer: i64, fate: Fate) {
        for (offset, entry) in (self.end..).zip(entries) {
            self.alive.insert(offset);
            self.model.insert(
                offset,
                Written {
                    entry,
                    producer,
                    fate,
                },
            );
        }
    }

    fn append(&mut self) {
        let id = self.rng.random_range(0..6);
        let mut builder = self.builder();
        if id < 4 {
            let next = self.sequences.get(&id).copied().unwrap_or(0);
            builder = builder.producer(ProducerId(id), 0, next);
        }
        let entries = self.fill(&mut builder);
        if id < 4 {
            *self.sequences.entry(id).or_default() += entries.len() as i32;
        }
        self.note(entries, id, Fate::Committed);
        let origin = Origin::Client {
            produce_version: 11,
        };
        self.push(builder.build().unwrap(), origin);
    }

    fn append_transactional(&mut self) {
        let id = self.rng.random_range(100..103);
        let mut builder = self
            .builder()
            .producer(ProducerId(id), 0, -1)
            .transactional(true);
        let entries = self.fill(&mut builder);
        self.note(entries, id, Fate::Open);
        self.push(builder.build().unwrap(), Origin::Coordinator);
    }

    fn end_transaction(&mut self) {
        let id = self.rng.random_range(100..103);
        let committed = self.rng.random_bool(0.5);
        let mut builder = BatchBuilder::new()
            .producer(ProducerId(id), 0, -1)
            .transactional(true)
            .control(true);
        let key = [0, 0, 0, u8::from(committed)];
        builder.append(self.now_ms, Some(&key), Some(&[0, 0, 0, 0, 0, 3]), &[]);
        self.push(builder.build().unwrap(), Origin::Coordinator);
        let fate = match committed {
            true => Fate::Committed,
            false => Fate::Aborted,
        };
        for written in self.model.values_mut() {
            if written.producer == id && written.fate == Fate::Open {
                written.fate = fate;
            }
        }
    }

    fn checkpoint(&mut self) -> bool {
        let work = self.with(|log| log.begin_checkpoint());
        let result = work.run();
        let succeeded = result.is_ok();
        self.with(|log| log.finish_flush(work, result));
        if succeeded {
            self.flushed = self.with(|log| log.recovery_point()).0;
            self.save();
        }
        succeeded
    }

    /// The broker's checkpoint files.
    fn save(&mut self) {
        let (checkpointed, start, compacted) = self.with(|log| {
            let start = log.log_start_offset();
            (log.checkpointed_offset(), start, log.compacted_to())
        });
        self.saved.recovery_point = checkpointed;
        self.saved.log_start_offset = start;
        self.saved_compacted_to = compacted;
    }

    fn limits(&mut self) -> CompactionLimits {
        CompactionLimits {
            // Sometimes so small that a round needs several passes.
            map_memory_bytes: match self.small_maps && self.rng.random_bool(0.3) {
                true => self.rng.random_range(0..200),
                false => 1 << 20,
            },
            map_load_factor: 0.9,
            io_buffer_bytes: 4 << 10,
            delete_retention_ms: DELETE_RETENTION_MS,
            now_ms: self.now_ms,
            hash_key: (self.rng.random(), self.rng.random()),
        }
    }

    fn cleanable(&mut self) -> Cleanable {
        let policy = CompactionPolicy {
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
        };
        let (flushed, now_ms) = (Offset(self.flushed), self.now_ms);
        self.with(|log| log.cleanable(&policy, flushed, now_ms))
            .unwrap()
    }

    /// One round; the old files are removed at once.
    fn compact(&mut self) -> Result<CompactionStats, CompactionError> {
        let (cleanable, limits) = (self.cleanable(), self.limits());
        let mut failed = None;
        let mut old_files = |old: OldFiles| failed = old.remove().err();
        let result = compact(&self.log, &cleanable, limits, &mut |_| true, &mut old_files);
        if result.is_ok() && failed.is_none() {
            self.rounds += 1;
        }
        result
    }

    /// A round that succeeds, and everything that must hold after it.
    fn compact_and_check(&mut self, context: &str) {
        let before = self.with(|log| log.producers().clone());
        let cleanable = self.cleanable();
        let stats = self.compact();
        let stats = stats.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(stats.unreadable, 0, "{context}");
        let (after, to) = self.with(|log| (log.producers().clone(), log.compacted_to().0));
        assert!(before == after, "{context}");
        assert!(to <= cleanable.first_uncleanable.0, "{context}");
        match stats.map_full {
            false => assert_eq!(to, cleanable.first_uncleanable.0, "{context}"),
            true => assert!(to > cleanable.first_dirty.0, "{context}: no progress"),
        }
        self.check_compacted(to, context);
        self.verify(context);
    }

    /// Below `to` of each key the last record is the only one left.
    fn check_compacted(&mut self, to: i64, context: &str) {
        let now_ms = self.now_ms;
        let start = self.with(|log| log.log_start_offset()).0;
        let mut seen = BTreeMap::new();
        for (header, entries) in self.batches() {
            let expired = header.has_delete_horizon() && header.base_timestamp <= now_ms;
            for (offset, entry) in entries {
                if !(start..to).contains(&offset) || header.is_control() {
                    continue;
                }
                assert!(entry.key.is_some(), "{context}: {offset} has no key");
                let earlier = seen.insert(entry.key.clone(), offset);
                assert_eq!(earlier, None, "{context}: {offset} is not alone");
                let gone = entry.value.is_none() && expired;
                assert!(!gone, "{context}: tombstone {offset} should be gone");
                if entry.value.is_none() {
                    assert!(header.has_delete_horizon(), "{context}: {offset}");
                    self.marked.entry(offset).or_insert(now_ms);
                }
                assert_ne!(self.model[&offset].fate, Fate::Aborted, "{context}");
            }
        }
    }

    /// Every batch of the log, in order.
    fn batches(&self) -> Vec<(BatchHeader, Vec<(i64, Entry)>)> {
        let bytes = self.with(|log| read_all(log));
        batches_of(&bytes)
    }

    fn verify(&mut self, context: &str) {
        let (start, end) = self.with(|log| {
            log.check_invariants();
            (log.log_start_offset().0, log.log_end_offset().0)
        });
        assert_eq!(end, self.end, "{context}");
        let batches = self.batches();
        let last = batches.last().map(|(header, _)| header.last_offset().0 + 1);
        assert!(
            last.is_none_or(|last| last == end),
            "{context}: the end moved"
        );
        let mut found = BTreeSet::new();
        for (header, entries) in &batches {
            for (offset, entry) in entries {
                if header.is_control() {
                    continue;
                }
                assert!(self.alive.contains(offset), "{context}: {offset} came back");
                assert_eq!(self.model[offset].entry, *entry, "{context}: {offset}");
                found.insert(*offset);
            }
        }
        // The last committed record of each key.
        let mut last = BTreeMap::new();
        for (offset, written) in self.model.range(start..) {
            if let (Some(key), Fate::Committed) = (&written.entry.key, written.fate) {
                last.insert(key.clone(), *offset);
            }
        }
        for (key, offset) in last {
            let tombstone = self.model[&offset].entry.value.is_none();
            let marked = self.marked.get(&offset).copied();
            let may_be_gone = marked.is_some_and(|at| self.now_ms >= at + DELETE_RETENTION_MS);
            assert!(
                found.contains(&offset) || (tombstone && may_be_gone),
                "{context}: {key:?} lost its last record {offset}, marked {marked:?}: {:?}",
                self.history_of(&key)
            );
        }
        // Open records stay, too.
        for (offset, written) in self.model.range(start..) {
            let open = written.fate == Fate::Open;
            assert!(!open || found.contains(offset), "{context}: {offset}");
        }
        // What a batch began below the start may be read as well.
        self.alive
            .retain(|offset| found.contains(offset) || *offset < start);
        self.verify_read_committed(&batches, context);
        self.verify_rebuild(context);
    }

    /// For a message: offsets, producers, fates and whether a value was written.
    fn history_of(&self, key: &[u8]) -> Vec<(i64, i64, Fate, bool)> {
        let of_key = self
            .model
            .iter()
            .filter(|(_, one)| one.entry.key.as_deref() == Some(key));
        of_key
            .map(|(at, one)| (*at, one.producer, one.fate, one.entry.value.is_some()))
            .collect()
    }

    /// What read_committed consumers see is not aborted.
    fn verify_read_committed(&self, batches: &[(BatchHeader, Vec<(i64, Entry)>)], context: &str) {
        let (start, end) = self.with(|log| (log.log_start_offset(), log.log_end_offset()));
        let aborted = self
            .with(|log| log.aborted_transactions(start, end))
            .unwrap();
        for (header, entries) in batches {
            if !header.is_transactional() || header.is_control() {
                continue;
            }
            let hidden = aborted.iter().any(|one| {
                one.producer_id == header.producer_id
                    && one.first_offset <= header.base_offset
                    && header.last_offset() <= one.last_offset
            });
            for (offset, _) in entries {
                let fate = self.model[offset].fate;
                assert_eq!(
                    hidden,
                    fate == Fate::Aborted,
                    "{context}: {offset} {fate:?}"
                );
            }
        }
    }

    /// A log over nothing but the segments' bytes comes to the same producer state.
    fn verify_rebuild(&self, context: &str) {
        if self.saved.log_start_offset > Offset(0) {
            return;
        }
        let copy = MemoryDisk::volatile();
        copy.create_dir(DIR).unwrap();
        let entries = self.disk.list(DIR).unwrap_or_default();
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".log")) {
            let path = format!("{DIR}/{}", entry.name);
            let from = self.disk.open(&path).unwrap();
            let mut bytes = vec![0; entry.len_bytes as usize];
            from.read_at(0, &mut bytes).unwrap();
            let to = copy.create(&path).unwrap();
            to.write_at(0, &[std::io::IoSlice::new(&bytes)]).unwrap();
        }
        let open = OpenLog {
            recovery_point: Offset(0),
            clean: false,
            synced: false,
            ..self.saved
        };
        let (naive, report) = Log::open(Arc::new(copy), DIR, self.config.clone(), open, 0).unwrap();
        assert_eq!(naive.log_end_offset().0, self.end, "{context}: {report:?}");
        let state = self.with(|log| log.producers().clone());
        for (id, entry) in state.iter() {
            let Some(rebuilt) = naive.producers().get(id) else {
                assert!(self.lost, "{context}: {id:?} is forgotten");
                continue;
            };
            // But for times: those of records that are gone are gone as well.
            let known = |entry: &ProducerEntry| -> Vec<_> {
                let batches = entry.batches().iter();
                batches
                    .map(|one| (one.last_sequence, one.last_offset, one.offset_delta))
                    .collect()
            };
            let (found, wanted) = (known(rebuilt), known(entry));
            // A round keeps what is remembered then; if some of that is lost later, older batches
            // are remembered again, and these are in snapshots only.
            if !self.lost {
                assert_eq!(found, wanted, "{context}: {id:?}");
            }
            assert_eq!(rebuilt.epoch, entry.epoch, "{context}");
            let open = entry.current_transaction_first_offset;
            assert_eq!(rebuilt.current_transaction_first_offset, open, "{context}");
        }
        assert!(naive.producers().len() <= state.len(), "{context}");
    }

    fn crash(&mut self, crash: Crash) {
        *self.log.0.lock() = None;
        self.disk.crash(crash);
    }

    /// Opens what is on the disk; what was not flushed may be gone.
    fn reopen(&mut self, context: &str) {
        let saved = self.saved;
        self.saved.clean = false;
        let opened = Log::open(
            Arc::new(self.disk.clone()),
            DIR,
            self.config.clone(),
            saved,
            self.now_ms,
        );
        let (mut log, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        log.set_compacted_to(self.saved_compacted_to);
        let end = log.log_end_offset().0;
        let range = self.flushed..=self.end;
        assert!(
            range.contains(&end),
            "{context}: {end} of {range:?}, {report:?}"
        );
        *self.log.0.lock() = Some(log);
        self.forget_above(end);
        self.flushed = end;
        let names = self.disk.list(DIR).unwrap_or_default();
        let leftover = |name: &str| {
            [".swap", ".cleaned", ".deleted"]
                .iter()
                .any(|s| name.ends_with(s))
        };
        assert!(
            !names.iter().any(|entry| leftover(&entry.name)),
            "{context}"
        );
        self.verify(context);
    }

    /// The log was cut: what it held above never was.
    fn forget_above(&mut self, end: i64) {
        if end >= self.end {
            return;
        }
        self.end = end;
        self.lost |= self.rounds > 0;
        self.model.split_off(&end);
        self.alive.split_off(&end);
        self.marked.split_off(&end);
        // The fates of transactions whose marker is gone, and the sequences: as the log knows them.
        let producers = self.with(|log| log.producers().clone());
        let open: BTreeMap<i64, i64> = producers
            .iter()
            .filter_map(|(id, one)| Some((id.0, one.current_transaction_first_offset?.0)))
            .collect();
        for (offset, written) in &mut self.model {
            let first = open.get(&written.producer);
            if first.is_some_and(|first| offset >= first) {
                written.fate = Fate::Open;
            }
        }
        for id in 0..4 {
            let last = producers.get(ProducerId(id)).map(|one| one.last_sequence());
            self.sequences.insert(id, last.map_or(0, |last| last + 1));
        }
    }

    fn close(&mut self) {
        self.with(|log| log.close()).unwrap();
        self.flushed = self.end;
        self.save();
        self.saved.clean = true;
    }

    fn truncate(&mut self, back: i64) -> Result<(), LogError> {
        // Never below what is committed, which compaction stays below.
        let offset = (self.end - back).max(self.flushed);
        self.with(|log| log.truncate_to(Offset(offset)))?;
        let end = self.with(|log| log.log_end_offset()).0;
        self.forget_above(end);
        Ok(())
    }

    fn delete_start(&mut self) {
        let (start, flushed) = (self.with(|log| log.log_start_offset()).0, self.flushed);
        let offset = Offset(self.rng.random_range(start..=flushed.max(start)));
        self.saved.log_start_offset = offset;
        self.with(|log| log.advance_log_start_offset(offset))
            .unwrap();
        let old = self.with(|log| log.delete_segments_below_log_start());
        old.unwrap().remove().unwrap();
    }
}

fn batches_of(bytes: &[u8]) -> Vec<(BatchHeader, Vec<(i64, Entry)>)> {
    let mut rest = bytes;
    let mut found = Vec::new();
    let mut expected = 0;
    while !rest.is_empty() {
        let view = RecordBatchView::parse(rest).unwrap();
        assert!(view.crc_is_valid());
        assert!(view.base_offset().0 >= expected, "offsets grow");
        expected = view.last_offset().0 + 1;
        let records = Records::open(view, RecordLimits::default()).unwrap();
        let entries = records.map(|record| {
            let record = record.unwrap();
            let entry = Entry {
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
                timestamp: record.timestamp,
            };
            (record.offset.0, entry)
        });
        found.push((*view.header(), entries.collect()));
        rest = &rest[view.size_bytes()..];
    }
    found
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap())
}

/// `SEED=n` starts at that history, `SEEDS=n` runs so many.
#[test]
fn random_histories_with_compactions_truncations_retention_and_crashes_match_the_model() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + number("SEEDS").unwrap_or(1),
        None => 0..number("SEEDS").unwrap_or(30),
    };
    let mut rounds = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        world.small_maps = true;
        world.with(|log| log.assign_leader_epoch(LeaderEpoch(0)));
        let deletes = world.rng.random_bool(0.5);
        for step in 0..400 {
            let context = format!("seed {seed} step {step}");
            random_step(&mut world, deletes, &context);
        }
        world.verify(&format!("seed {seed} at the end"));
        rounds += world.rounds;
    }
    assert!(rounds > 0);
}

fn random_step(world: &mut World, deletes: bool, context: &str) {
    match world.rng.random_range(0..1_000) {
        0..500 => world.append(),
        500..600 => world.append_transactional(),
        600..680 => world.end_transaction(),
        680..760 => assert!(world.checkpoint()),
        760..860 => world.compact_and_check(context),
        860..890 => world.now_ms += world.rng.random_range(0..2 * DELETE_RETENTION_MS),
        890..910 => {
            let back = world.rng.random_range(0..20);
            world.truncate(back).unwrap();
        }
        910..920 if deletes => world.delete_start(),
        920..930 => {
            world.with(|log| log.release_caches());
        }
        930..940 => world.verify(context),
        940..960 => {
            world.close();
            *world.log.0.lock() = None;
            world.reopen(context);
        }
        960..1_000 => {
            let crash = match world.rng.random_range(0..3) {
                0 => Crash::Process,
                1 => Crash::PowerLossOfAllUnsynced,
                _ => Crash::PowerLoss {
                    seed: world.rng.random(),
                },
            };
            world.crash(crash);
            world.reopen(&format!("{context} {crash:?}"));
        }
        _ => {}
    }
}

/// A log with something to do for a round, all of it checkpointed.
fn prepared(seed: u64) -> World {
    let mut world = World::new(seed);
    for step in 0..60 {
        match step % 6 {
            0 => world.append_transactional(),
            5 => world.end_transaction(),
            _ => world.append(),
        }
    }
    while let Some(id) = world.open_transactions().first().copied() {
        let before = world.open_transactions().len();
        world.end_transaction();
        assert!(world.open_transactions().len() <= before, "{id}");
    }
    world.append();
    assert!(world.checkpoint());
    assert!(world.with(|log| log.segment_count()) > 3);
    world
}

#[test]
fn a_crash_anywhere_in_a_round_leaves_every_group_as_it_was_or_compacted() {
    let mut points = 0;
    for seed in 0..2 {
        let mut counted = prepared(seed);
        let before = counted.disk.operations();
        counted.compact().unwrap();
        assert!(counted.checkpoint());
        let operations = counted.disk.operations() - before;
        for halt_after in 0..=operations {
            let power = (0..2).map(|seed| Crash::PowerLoss { seed });
            for crash in [Crash::Process, Crash::PowerLossOfAllUnsynced]
                .into_iter()
                .chain(power)
            {
                let context = format!("seed {seed}, {halt_after} changes, {crash:?}");
                let mut world = prepared(seed);
                world.disk.halt_after(halt_after);
                let done = world.compact().is_ok() && world.checkpoint();
                assert!(done || world.disk.halted(), "{context}");
                world.crash(crash);
                world.reopen(&context);
                // It goes on, and another round comes to the end.
                world.append();
                assert!(world.checkpoint(), "{context}");
                world.compact_and_check(&context);
                world.crash(Crash::PowerLossOfAllUnsynced);
                world.reopen(&format!("{context}, again"));
                points += 1;
            }
        }
    }
    assert!(points > 200, "{points}");
}

#[test]
fn a_crash_anywhere_in_completing_a_swap_is_recovered_from() {
    for seed in 0..2 {
        let mut counted = prepared(seed);
        let before = counted.disk.operations();
        counted.compact().unwrap();
        let operations = counted.disk.operations() - before;
        for halt_after in 0..=operations {
            for second in 0..6 {
                let context = format!("seed {seed}, {halt_after} then {second} changes");
                let mut world = prepared(seed);
                world.disk.halt_after(halt_after);
                let _ = world.compact();
                world.crash(Crash::PowerLoss { seed: second });
                world.disk.halt_after(second);
                let disk = Arc::new(world.disk.clone());
                let _ = Log::open(disk, DIR, world.config.clone(), world.saved, 0);
                world.crash(Crash::PowerLoss { seed: second + 9 });
                world.reopen(&context);
            }
        }
    }
}

#[test]
fn a_disk_that_fails_ends_the_round_and_leaves_the_log_as_it_was() {
    for (operation, error) in [
        (Operation::Create, InjectedError::TooManyOpenFiles),
        (Operation::Write, InjectedError::NoSpace),
        (Operation::Sync, InjectedError::Io),
        (Operation::Rename, InjectedError::Io),
    ] {
        let mut world = prepared(1);
        let wanted = world.with(|log| read_all(log));
        world
            .disk
            .inject(Injection::once(operation, error).on(".cleaned"));
        let failed = world.compact();
        let failed = failed.expect_err("the disk said no");
        assert!(!failed.is_lasting(), "{failed}");
        assert_eq!(world.with(|log| read_all(log)), wanted);
        assert!(!world.with(|log| log.poisoned()), "{operation:?}");
        world.append();
        assert!(world.checkpoint());
        world.compact_and_check(&format!("{operation:?}"));
    }
}

#[test]
fn a_batch_with_a_wrong_checksum_ends_rounds_for_good_and_costs_nothing() {
    let mut world = prepared(2);
    world
        .disk
        .corrupt("t-0/00000000000000000000.log", 40, &[0xff])
        .unwrap();
    let failed = world.compact().expect_err("the checksum is wrong");
    assert!(
        matches!(failed, CompactionError::Corrupt { .. }),
        "{failed}"
    );
    assert!(failed.is_lasting());
    assert!(world.with(|log| log.compacted_to()) == Offset(0));
    let names = world.disk.list(DIR).unwrap();
    assert!(!names.iter().any(|entry| entry.name.ends_with(".cleaned")));
}

#[test]
fn a_batch_whose_records_cannot_be_read_is_copied_and_supersedes_nothing() {
    let mut world = World::new(3);
    let mut builder = BatchBuilder::new();
    builder.append(1, Some(b"a"), Some(b"first"), &[]);
    world.push(builder.build().unwrap(), Origin::Coordinator);
    // Two records are announced where there is one.
    let mut bytes = builder.build().unwrap().bytes().to_vec();
    bytes[57..61].copy_from_slice(&2i32.to_be_bytes());
    bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let lie = RecordBatch::from_bytes(bytes[..].into()).unwrap();
    world.push(lie, Origin::Coordinator);
    let mut filler = BatchBuilder::new();
    filler.append(1, Some(b"b"), Some(&[0; 2_600][..500]), &[]);
    for _ in 0..10 {
        world.push(filler.build().unwrap(), Origin::Coordinator);
    }
    assert!(world.checkpoint());
    let stats = world.compact().unwrap();
    assert_eq!(stats.unreadable, 1);
    let bytes = world.with(|log| read_all(log));
    let first = RecordBatchView::parse(&bytes).unwrap();
    assert_eq!(first.header().record_count, 1);
    let second = RecordBatchView::parse(&bytes[first.size_bytes()..]).unwrap();
    assert_eq!(
        (second.base_offset().0, second.header().record_count),
        (1, 2)
    );
}

#[test]
fn tombstones_need_two_rounds_and_the_time_between() {
    let mut world = World::new(4);
    let put = |world: &mut World, value: Option<&[u8]>| {
        let mut builder = BatchBuilder::new();
        builder.append(world.now_ms, Some(b"a"), value, &[]);
        world.push(builder.build().unwrap(), Origin::Coordinator);
    };
    put(&mut world, Some(b"value"));
    put(&mut world, None);
    let fill = |world: &mut World| {
        for n in 0..12u8 {
            let mut builder = BatchBuilder::new();
            builder.append(world.now_ms, Some(&[n]), Some(&[0; 400]), &[]);
            world.push(builder.build().unwrap(), Origin::Coordinator);
        }
        assert!(world.checkpoint());
        world.compact().unwrap();
    };
    let tombstones = |world: &World| {
        let batches = world.batches();
        let of = |(header, entries): &(BatchHeader, Vec<(i64, Entry)>)| {
            let of_key = |one: &&(i64, Entry)| one.1.key.as_deref() == Some(b"a");
            let one = entries.iter().find(of_key)?;
            let horizon = header.has_delete_horizon().then_some(header.base_timestamp);
            Some((one.0, one.1.clone(), horizon))
        };
        batches.iter().filter_map(of).collect::<Vec<_>>()
    };
    let written_ms = world.now_ms;
    fill(&mut world);
    let horizon = world.now_ms + DELETE_RETENTION_MS;
    let tombstone = Entry {
        key: Some(b"a".to_vec()),
        value: None,
        timestamp: written_ms,
    };
    assert_eq!(tombstones(&world), [(1, tombstone.clone(), Some(horizon))]);
    world.now_ms = horizon - 1;
    fill(&mut world);
    assert_eq!(
        tombstones(&world),
        [(1, tombstone, Some(horizon))],
        "not moved on"
    );
    world.now_ms = horizon;
    fill(&mut world);
    assert_eq!(tombstones(&world), []);
}

#[test]
fn a_round_can_be_stopped_between_any_two_reads() {
    let mut world = prepared(5);
    let mut reads = 0;
    loop {
        let (cleanable, limits) = (world.cleanable(), world.limits());
        let mut left = reads;
        let mut pace = |_| {
            left -= 1;
            left >= 0
        };
        let result = compact(&world.log, &cleanable, limits, &mut pace, &mut |_| {});
        world.verify(&format!("stopped after {reads}"));
        match result {
            Ok(_) => break,
            Err(CompactionError::Stopped) => reads += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(reads > 3, "{reads}");
}

#[test]
fn young_records_wait_and_old_ones_do_not_wait_for_ever() {
    let mut world = prepared(6);
    let (flushed, now_ms) = (Offset(world.flushed), world.now_ms);
    let look = |world: &World, min_lag_ms, max_lag_ms, now_ms| {
        let policy = CompactionPolicy {
            min_lag_ms,
            max_lag_ms,
        };
        world
            .with(|log| log.cleanable(&policy, flushed, now_ms))
            .unwrap()
    };
    let all = look(&world, 0, i64::MAX, now_ms);
    assert!(all.dirty_bytes > 0 && !all.overdue && all.dirty_ratio() == 1.0);
    let none = look(&world, 1_000_000_000, i64::MAX, now_ms);
    assert_eq!((none.first_uncleanable, none.dirty_bytes), (Offset(0), 0));
    let some = look(&world, 150, i64::MAX, now_ms);
    assert!(some.dirty_bytes < all.dirty_bytes);
    assert!(look(&world, 0, 100, now_ms + 1_000).overdue);
    assert!(!look(&world, 0, 1_000_000, now_ms).overdue);
    world.compact_and_check("then");
    let clean = look(&world, 0, 100, now_ms + 1_000);
    assert!(clean.dirty_bytes == 0 && !clean.is_due(0.0), "{clean:?}");
}

/// Readers and a writer on a real disk while rounds, deletions and checkpoints go on.
#[test]
fn readers_beside_rounds_never_see_torn_reordered_or_returning_records() {
    let root = tempfile::tempdir().unwrap();
    // Few descriptors: files are closed and opened again all the time.
    let disk = RealDisk::open(root.path(), &Budget::new(3, 4)).unwrap();
    let config = LogConfig {
        segment_size_bytes: 4_000,
        index_interval_bytes: 200,
        timestamp_after_max_ms: i64::MAX,
        ..LogConfig::default()
    };
    let log = Log::create(Arc::new(disk), DIR, TopicId::ZERO, config).unwrap();
    let (log, stop) = (Shared(Mutex::new(Some(log))), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (log, stop) = (&log, &stop);
            scope.spawn(move || read_until(log, stop, reader));
        }
        scope.spawn(|| write_until(&log, &stop));
        let mut rounds = 0;
        let started = std::time::Instant::now();
        while rounds < 60 && started.elapsed().as_secs() < 20 {
            let flush = log.with_log(|log| log.begin_checkpoint()).unwrap();
            let result = flush.run();
            log.with_log(|log| log.finish_flush(flush, result));
            let policy = CompactionPolicy {
                min_lag_ms: 0,
                max_lag_ms: i64::MAX,
            };
            let cleanable = log.with_log(|log| {
                let end = log.recovery_point();
                log.cleanable(&policy, end, 1).unwrap()
            });
            let limits = CompactionLimits {
                map_memory_bytes: 1 << 16,
                map_load_factor: 0.9,
                io_buffer_bytes: 64 << 10,
                delete_retention_ms: 0,
                now_ms: 1,
                hash_key: (1, 2),
            };
            let mut remove = |old: OldFiles| old.remove().unwrap();
            compact(
                &log,
                &cleanable.unwrap(),
                limits,
                &mut |_| true,
                &mut remove,
            )
            .unwrap();
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(rounds > 5, "{rounds}");
    });
    let log = log.0.lock().take().unwrap();
    let bytes = read_all(&log);
    let mut keys = BTreeSet::new();
    let first_dirty = log.compacted_to().0;
    for (_, entries) in batches_of(&bytes) {
        for (offset, entry) in entries {
            assert!(offset >= first_dirty || keys.insert(entry.key), "{offset}");
        }
    }
}

fn write_until(log: &Shared, stop: &AtomicBool) {
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let mut builder = BatchBuilder::new();
        for _ in 0..3 {
            let key = [(n % 37) as u8];
            builder.append(1, Some(&key), Some(&n.to_be_bytes()), &[]);
            n += 1;
        }
        let at = AppendAt {
            leader_epoch: LeaderEpoch(0),
            now_ms: 1,
            origin: Origin::Coordinator,
        };
        let batch = builder.build().unwrap();
        log.with_log(|log| log.append(batch, &at)).unwrap().unwrap();
        if n.is_multiple_of(30) {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    }
}

/// The value of a record is its offset, so a torn or misplaced one shows.
fn read_until(log: &Shared, stop: &AtomicBool, reader: u64) {
    let mut rng = StdRng::seed_from_u64(reader);
    let mut gone: BTreeSet<i64> = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let (from, read, end) = log
            .with_log(|log| {
                let end = log.log_end_offset();
                let from = Offset(rng.random_range(0..=end.0));
                (from, log.read(from, 3_000, end, true).unwrap(), end)
            })
            .unwrap();
        // The bytes are fetched later, without the lock, as a connection does.
        std::thread::yield_now();
        let bytes = super::world::bytes_of(&read);
        let mut seen = BTreeSet::new();
        for (_, entries) in batches_of(&bytes) {
            for (offset, entry) in entries {
                assert_eq!(entry.value.unwrap(), (offset as u64).to_be_bytes());
                assert_eq!(entry.key.unwrap(), [(offset as u64 % 37) as u8]);
                assert!(!gone.contains(&offset), "{offset} came back");
                seen.insert(offset);
            }
        }
        assert!(
            from == end || read.next_offset > from,
            "a read makes progress"
        );
        gone.extend((from.0..read.next_offset.0).filter(|offset| !seen.contains(offset)));
    }
}
