//! A compacted log, the disk under it, and every record ever written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, Compression, RecordBatch};
use ottla_protocol::types::{LeaderEpoch, Offset, ProducerId, TopicId};
use ottla_storage::disk::memory::Crash;
use ottla_storage::disk::{Disk, MemoryDisk};
use ottla_storage::log::compact::{
    Cleanable, CompactionError, CompactionLimits, CompactionPolicy, CompactionStats, LogAccess,
    compact,
};
use ottla_storage::log::{AppendAt, Log, LogConfig, LogError, OldFiles, OpenLog, Origin};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

pub(super) const DIR: &str = "t-0";
pub(super) const DELETE_RETENTION_MS: i64 = 500;

/// What becomes of a record's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) timestamp: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) entry: Entry,
    pub(super) producer: i64,
    pub(super) fate: Fate,
}

/// A log behind a lock, as a broker has it.
pub(super) struct Shared(pub(super) Mutex<Option<Log>>);

impl LogAccess for Shared {
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.0.lock().as_mut().map(f)
    }
}

pub(super) struct World {
    pub(super) disk: MemoryDisk,
    pub(super) log: Shared,
    pub(super) config: LogConfig,
    pub(super) rng: StdRng,
    pub(super) now_ms: i64,
    /// Every record of the log by its offset; control records are not in it.
    pub(super) model: BTreeMap<i64, Written>,
    /// What a reader may still find.
    pub(super) alive: BTreeSet<i64>,
    /// Tombstones that may be gone: when a round first saw them as the last of their key.
    pub(super) marked: BTreeMap<i64, i64>,
    pub(super) end: i64,
    pub(super) flushed: i64,
    pub(super) saved: OpenLog,
    pub(super) saved_compacted_to: Offset,
    pub(super) sequences: BTreeMap<i64, i32>,
    pub(super) rounds: u64,
    /// Some rounds get a table that is too small.
    pub(super) small_maps: bool,
    /// Batches were lost or cut off after a round.
    pub(super) lost: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = LogConfig {
            segment_size_bytes: rng.random_range(600..2_500),
            index_interval_bytes: rng.random_range(0..300),
            timestamp_after_max_ms: i64::MAX,
            zeros_from_bytes: if seed.is_multiple_of(2) {
                100
            } else {
                u32::MAX
            },
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

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Log) -> T) -> T {
        self.log.with_log(f).unwrap()
    }

    pub(super) fn open_transactions(&self) -> BTreeSet<i64> {
        let open = self
            .model
            .values()
            .filter(|one| one.fate == Fate::Open)
            .map(|one| one.producer);
        open.collect()
    }

    pub(super) fn builder(&mut self) -> BatchBuilder {
        let codec = match self.rng.random_range(0..10) {
            0 => Compression::Lz4,
            1 => Compression::Zstd,
            2 => Compression::Gzip,
            3 => Compression::Snappy,
            _ => Compression::None,
        };
        BatchBuilder::new().compression(codec)
    }

    pub(super) fn fill(&mut self, builder: &mut BatchBuilder) -> Vec<Entry> {
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

    pub(super) fn push(&mut self, batch: RecordBatch, origin: Origin) {
        let at = AppendAt {
            leader_epoch: LeaderEpoch(0),
            now_ms: self.now_ms,
            origin,
        };
        let appended = self.with(|log| log.append(batch, &at)).unwrap();
        assert_eq!(appended.base_offset.0, self.end);
        self.end = appended.last_offset.0 + 1;
    }

    pub(super) fn note(&mut self, entries: Vec<Entry>, producer: i64, fate: Fate) {
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

    pub(super) fn append(&mut self) {
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

    pub(super) fn append_transactional(&mut self) {
        let id = self.rng.random_range(100..103);
        let mut builder = self
            .builder()
            .producer(ProducerId(id), 0, -1)
            .transactional(true);
        let entries = self.fill(&mut builder);
        self.note(entries, id, Fate::Open);
        self.push(builder.build().unwrap(), Origin::Coordinator);
    }

    pub(super) fn end_transaction(&mut self) {
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

    pub(super) fn checkpoint(&mut self) -> bool {
        let work = self.with(|log| log.begin_checkpoint());
        let result = work.run();
        let succeeded = result.is_ok();
        self.with(|log| log.finish_flush(work, result));
        if succeeded {
            self.flushed = self.with(|log| log.recovery_point()).0;
            self.save();
            self.with(|log| log.write_zeros_ahead());
        }
        succeeded
    }

    /// The broker's checkpoint files.
    pub(super) fn save(&mut self) {
        let (checkpointed, start, compacted) = self.with(|log| {
            let start = log.log_start_offset();
            (log.checkpointed_offset(), start, log.compacted_to())
        });
        self.saved.recovery_point = checkpointed;
        self.saved.log_start_offset = start;
        self.saved_compacted_to = compacted;
    }

    pub(super) fn limits(&mut self) -> CompactionLimits {
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

    pub(super) fn cleanable(&mut self) -> Cleanable {
        let policy = CompactionPolicy {
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
        };
        let (flushed, now_ms) = (Offset(self.flushed), self.now_ms);
        self.with(|log| log.cleanable(&policy, flushed, now_ms))
            .unwrap()
    }

    /// One round; the old files are removed at once.
    pub(super) fn compact(&mut self) -> Result<CompactionStats, CompactionError> {
        let (cleanable, limits) = (self.cleanable(), self.limits());
        let mut failed = None;
        let mut old_files = |old: OldFiles| failed = old.remove().err();
        let result = compact(&self.log, &cleanable, limits, &mut |_| true, &mut old_files);
        if result.is_ok() && failed.is_none() {
            self.rounds += 1;
        }
        result
    }

    pub(super) fn crash(&mut self, crash: Crash) {
        *self.log.0.lock() = None;
        self.disk.crash(crash);
    }

    /// Opens what is on the disk; what was not flushed may be gone.
    pub(super) fn reopen(&mut self, context: &str) {
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
    pub(super) fn forget_above(&mut self, end: i64) {
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

    pub(super) fn close(&mut self) {
        self.with(|log| log.close()).unwrap();
        self.flushed = self.end;
        self.save();
        self.saved.clean = true;
    }

    pub(super) fn truncate(&mut self, back: i64) -> Result<(), LogError> {
        // Never below what is committed, which compaction stays below.
        let offset = (self.end - back).max(self.flushed);
        self.with(|log| log.truncate_to(Offset(offset)))?;
        let end = self.with(|log| log.log_end_offset()).0;
        self.forget_above(end);
        Ok(())
    }

    pub(super) fn delete_start(&mut self) {
        let (start, flushed) = (self.with(|log| log.log_start_offset()).0, self.flushed);
        let offset = Offset(self.rng.random_range(start..=flushed.max(start)));
        self.saved.log_start_offset = offset;
        self.with(|log| log.advance_log_start_offset(offset))
            .unwrap();
        let old = self.with(|log| log.delete_segments_below_log_start());
        old.unwrap().remove().unwrap();
    }
}
