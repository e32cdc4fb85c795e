//! A log, the disk under it, the broker's checkpoint files beside it, and what they should hold.

use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, Compression, RecordBatch};
use ottla_protocol::types::{LeaderEpoch, Offset, ProducerId, TopicId};
use ottla_storage::disk::memory::Crash;
use ottla_storage::disk::{Disk, MemoryDisk, RecordData};
use ottla_storage::log::{
    AppendAt, AppendError, FlushWork, Log, LogConfig, LogError, LogRead, OpenLog, Origin,
    RecoveryReport, Retention,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

pub(crate) const DIR: &str = "t-0";

/// A batch as it must be in the log.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) base: i64,
    pub(crate) last: i64,
    pub(crate) epoch: i32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) producer: Option<Produced>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Produced {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) transactional: bool,
    /// `Some(committed)` for a marker.
    pub(crate) marker: Option<bool>,
}

/// What may be in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) start: i64,
    pub(crate) batches: Vec<Batch>,
}

impl Model {
    pub(crate) fn end(&self) -> i64 {
        self.batches
            .last()
            .map_or(self.start, |batch| batch.last + 1)
    }

    /// The same, cut to what ends at or before `end`; `None` if no batch ends there.
    fn prefix(&self, end: i64) -> Option<Model> {
        let count = self
            .batches
            .iter()
            .take_while(|batch| batch.last < end)
            .count();
        let model = Model {
            start: self.start,
            batches: self.batches[..count].to_vec(),
        };
        (model.end() == end).then_some(model)
    }
}

/// Batches that are appended together, with the times of their records.
pub(crate) type Run = Vec<(RecordBatch, Vec<i64>, Option<Produced>)>;

pub(crate) const CLIENT: Origin = Origin::Client {
    produce_version: 11,
};

/// The same batch once more.
pub(crate) fn again(batch: &RecordBatch) -> RecordBatch {
    RecordBatch::from_bytes(batch.bytes().into()).unwrap()
}

pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    pub(crate) log: Option<Log>,
    pub(crate) config: LogConfig,
    pub(crate) model: Model,
    /// What the log may hold instead, after an operation that failed half-way.
    pub(crate) alternative: Option<Model>,
    /// Must survive any crash.
    pub(crate) flushed: i64,
    /// The directory's checkpoint files.
    pub(crate) saved: OpenLog,
    /// Segments were deleted at the start: producer state may know more than the log.
    pub(crate) deleted: bool,
    pub(crate) rng: StdRng,
    pub(crate) epoch: i32,
    pub(crate) now_ms: i64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = LogConfig {
            segment_size_bytes: rng.random_range(800..4_000),
            segment_ms: if rng.random_bool(0.2) { 200 } else { i64::MAX },
            segment_index_bytes: if rng.random_bool(0.2) { 48 } else { 10 << 20 },
            index_interval_bytes: rng.random_range(0..400),
            timestamp_after_max_ms: i64::MAX,
            // Most worlds write zeros ahead all the time.
            zeros_from_bytes: match seed % 4 {
                0 => u32::MAX,
                small => 150 * small as u32,
            },
            ..LogConfig::default()
        };
        let disk = MemoryDisk::with_seed(seed);
        let id = TopicId(Uuid::from_u128(u128::from(seed) + 1));
        let log = Log::create(Arc::new(disk.clone()), DIR, id, config.clone()).unwrap();
        let start = Offset(0);
        World {
            disk,
            log: Some(log),
            config,
            model: Model::default(),
            alternative: None,
            flushed: 0,
            saved: OpenLog {
                recovery_point: start,
                log_start_offset: start,
                clean: false,
                synced: false,
            },
            deleted: false,
            rng,
            epoch: 0,
            now_ms: 1_000_000,
        }
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    pub(crate) fn at(&self, origin: Origin) -> AppendAt {
        AppendAt {
            leader_epoch: LeaderEpoch(self.epoch),
            now_ms: self.now_ms,
            origin,
        }
    }

    /// A batch of random size and times.
    pub(crate) fn batch(&mut self, produced: Option<Produced>) -> (RecordBatch, Vec<i64>) {
        self.now_ms += self.rng.random_range(0..20);
        let mut builder = BatchBuilder::new();
        if self.rng.random_bool(0.1) {
            builder = builder.compression(Compression::Lz4);
        }
        if let Some(produced) = produced {
            builder = builder
                .producer(ProducerId(produced.id), produced.epoch, produced.sequence)
                .transactional(produced.transactional);
        }
        let count = self.rng.random_range(1..5);
        let mut timestamps = Vec::new();
        for _ in 0..count {
            let timestamp = self.now_ms - self.rng.random_range(0..30);
            let value = vec![7; self.rng.random_range(0..150)];
            builder.append(timestamp, Some(b"key"), Some(&value), &[]);
            timestamps.push(timestamp);
        }
        (builder.build().unwrap(), timestamps)
    }

    pub(crate) fn push(
        &mut self,
        batch: RecordBatch,
        timestamps: Vec<i64>,
        produced: Option<Produced>,
        origin: Origin,
    ) -> Result<(), AppendError> {
        let at = self.at(origin);
        let end = self.model.end();
        let mut bytes = batch.bytes().to_vec();
        let appended = self.log().append(batch, &at)?;
        assert!(!appended.duplicate);
        assert_eq!(appended.base_offset, Offset(end));
        bytes[..8].copy_from_slice(&end.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        self.model.batches.push(Batch {
            base: end,
            last: appended.last_offset.0,
            epoch: self.epoch,
            bytes,
            timestamps,
            producer: produced,
        });
        Ok(())
    }

    pub(crate) fn append(&mut self) -> Result<(), AppendError> {
        let (batch, timestamps) = self.batch(None);
        self.push(
            batch,
            timestamps,
            None,
            Origin::Client {
                produce_version: 11,
            },
        )
    }

    /// The last batches of a producer in its current epoch, newest first.
    pub(crate) fn history(&self, id: i64) -> Vec<&Batch> {
        let of = |batch: &&Batch| batch.producer.is_some_and(|p| p.id == id);
        let mut epoch = None;
        self.model
            .batches
            .iter()
            .rev()
            .filter(of)
            .take_while(|batch| {
                let own = batch.producer.unwrap().epoch;
                *epoch.get_or_insert(own) == own
            })
            .collect()
    }

    pub(crate) fn append_idempotent(&mut self) -> Result<(), AppendError> {
        let id = self.rng.random_range(0..4);
        let produced = self.next_of(id);
        let (batch, timestamps) = self.batch(Some(produced));
        self.push(batch, timestamps, Some(produced), CLIENT)
    }

    /// Batches that belong together: of no producer, or of one.
    pub(crate) fn run(&mut self, count: usize) -> Run {
        let mut next = None;
        if self.rng.random_bool(0.5) {
            let id = self.rng.random_range(0..4);
            next = Some(self.next_of(id));
        }
        let mut run = Vec::new();
        for _ in 0..count {
            let produced = next;
            let (batch, timestamps) = self.batch(produced);
            if let Some(next) = &mut next {
                let after = i64::from(next.sequence) + timestamps.len() as i64;
                next.sequence = (after % (1 << 31)) as i32;
            }
            run.push((batch, timestamps, produced));
        }
        run
    }

    /// Appends batches as a leader does that got all of them at once.
    pub(crate) fn append_run(&mut self, run: Run) -> Vec<Result<(), AppendError>> {
        let at = self.at(CLIENT);
        let mut batches: Vec<RecordBatch> = run.iter().map(|(batch, ..)| again(batch)).collect();
        self.log().write_ahead(&mut batches, &at);
        let appended = batches
            .into_iter()
            .zip(run)
            .map(|(batch, (_, timestamps, produced))| {
                self.push(batch, timestamps, produced, CLIENT)
            })
            .collect();
        self.log().end_ahead();
        appended
    }

    fn next_of(&mut self, id: i64) -> Produced {
        let history = self.history(id);
        let last = history
            .first()
            .map(|batch| (batch.producer.unwrap(), batch.last - batch.base));
        let (mut epoch, mut sequence) = match last {
            None => (0, i32::MAX - self.rng.random_range(0..8)),
            Some((produced, delta)) => {
                let next = i64::from(produced.sequence) + delta + 1;
                (produced.epoch, (next % (1 << 31)) as i32)
            }
        };
        if last.is_some() && self.rng.random_bool(0.05) {
            (epoch, sequence) = (epoch + 1, 0);
        }
        Produced {
            id,
            epoch,
            sequence,
            transactional: false,
            marker: None,
        }
    }

    /// Sends one of the last five batches of a producer again.
    pub(crate) fn append_duplicate(&mut self, context: &str) {
        let id = self.rng.random_range(0..4);
        let pick = self.rng.random_range(0..5);
        let history = self.history(id);
        let Some(original) = history.get(pick).map(|batch| (*batch).clone()) else {
            return;
        };
        let mut bytes = original.bytes.clone();
        bytes[..8].fill(0);
        let batch = RecordBatch::from_bytes(bytes[..].into()).unwrap();
        let at = self.at(Origin::Client {
            produce_version: 11,
        });
        let appended = self.log().append(batch, &at);
        let appended = appended.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(appended.duplicate, "{context}: {original:?}");
        assert_eq!(
            (appended.base_offset.0, appended.last_offset.0),
            (original.base, original.last)
        );
    }

    /// A transactional batch or a marker, as a coordinator or a replica brings them.
    pub(crate) fn append_transactional(&mut self) -> Result<(), AppendError> {
        let id = self.rng.random_range(100..103);
        let mut produced = Produced {
            id,
            epoch: 0,
            sequence: -1,
            transactional: true,
            marker: None,
        };
        if self.rng.random_bool(0.5) {
            let (batch, timestamps) = self.batch(Some(produced));
            return self.push(batch, timestamps, Some(produced), Origin::Coordinator);
        }
        let committed = self.rng.random_bool(0.5);
        produced.marker = Some(committed);
        let mut builder = BatchBuilder::new()
            .producer(ProducerId(id), 0, -1)
            .transactional(true)
            .control(true);
        let kind = u8::from(committed);
        builder.append(
            self.now_ms,
            Some(&[0, 0, 0, kind]),
            Some(&[0, 0, 0, 0, 0, 3]),
            &[],
        );
        let timestamps = vec![self.now_ms];
        self.push(
            builder.build().unwrap(),
            timestamps,
            Some(produced),
            Origin::Coordinator,
        )
    }

    pub(crate) fn bump_epoch(&mut self) {
        self.epoch += 1;
        let epoch = LeaderEpoch(self.epoch);
        self.log().assign_leader_epoch(epoch);
    }

    pub(crate) fn flush(&mut self, checkpoint: bool) -> bool {
        self.flush_with(match checkpoint {
            true => Log::begin_checkpoint,
            false => Log::begin_flush,
        })
    }

    /// What happens to a log that nobody uses.
    pub(crate) fn release(&mut self) {
        if self.log().release_caches() && self.rng.random_bool(0.5) {
            assert!(self.flush_with(Log::begin_idle_checkpoint));
            assert!(
                !self.log().release_caches(),
                "an idle checkpoint lets everything go"
            );
        }
    }

    fn flush_with(&mut self, begin: fn(&Log) -> FlushWork) -> bool {
        let log = self.log();
        let work = begin(log);
        let result = work.run();
        let succeeded = result.is_ok();
        log.finish_flush(work, result);
        if succeeded && !self.log().poisoned() {
            let log = self.log.as_ref().unwrap();
            assert_eq!(log.recovery_point(), log.log_end_offset());
            self.flushed = log.recovery_point().0;
            self.saved.recovery_point = log.checkpointed_offset();
            self.log().write_zeros_ahead();
        }
        succeeded
    }

    pub(crate) fn truncate(&mut self, offset: i64) -> Result<(), LogError> {
        let kept = self
            .model
            .batches
            .iter()
            .take_while(|batch| batch.last < offset)
            .count();
        let cut = self
            .model
            .batches
            .get(kept)
            .map_or_else(|| self.model.end(), |b| b.base.min(offset));
        if offset < self.model.end() {
            self.flushed = self.flushed.min(cut);
            let start = self.saved.log_start_offset.min(Offset(cut));
            self.saved.log_start_offset = start;
        }
        self.log().truncate_to(Offset(offset))?;
        self.model.batches.truncate(kept);
        Ok(())
    }

    pub(crate) fn start_over(&mut self, offset: i64) -> Result<(), LogError> {
        // The broker notes the new start first: it must not lie behind what is lost.
        self.flushed = 0;
        self.alternative = Some(Model {
            start: offset,
            batches: Vec::new(),
        });
        self.log().truncate_fully_and_start_at(Offset(offset))?;
        self.model = self.alternative.take().unwrap();
        self.flushed = offset;
        self.saved.log_start_offset = Offset(offset);
        self.deleted = false;
        Ok(())
    }

    pub(crate) fn delete_start(&mut self, offset: i64) -> Result<(), LogError> {
        // As a broker does it: only what is committed may be deleted.
        let offset = offset.min(self.flushed);
        let log = self.log();
        let offset = Offset(offset).max(log.log_start_offset());
        log.advance_log_start_offset(offset)?;
        self.saved.log_start_offset = offset;
        self.deleted = true;
        let old = self.log().delete_segments_below_log_start()?;
        old.remove().map_err(|source| LogError::Io {
            path: DIR.to_owned(),
            source,
        })?;
        Ok(())
    }

    /// Retention as a broker runs it.
    pub(crate) fn expire(&mut self, retention: &Retention) -> Result<bool, LogError> {
        let (flushed, now_ms) = (Offset(self.flushed), self.now_ms);
        let Some(expired) = self.log().expired(retention, flushed, now_ms)? else {
            return Ok(false);
        };
        assert!(expired.log_start_offset <= flushed);
        // The start is in the directory's file before the log knows of it.
        self.saved.log_start_offset = expired.log_start_offset;
        self.deleted = true;
        self.log()
            .advance_log_start_offset(expired.log_start_offset)?;
        if !self.flush(true) {
            return Err(LogError::Poisoned);
        }
        // Nobody waits for the files to go; recovery removes them.
        let _ = self.log().delete_segments_below_log_start()?;
        Ok(true)
    }

    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        self.log().close()?;
        let log = self.log.as_ref().unwrap();
        assert_eq!(log.checkpointed_offset(), log.log_end_offset());
        self.flushed = self.model.end();
        self.saved.recovery_point = log.checkpointed_offset();
        self.saved.log_start_offset = log.log_start_offset();
        self.saved.clean = true;
        Ok(())
    }

    pub(crate) fn crash(&mut self, crash: Crash) {
        self.log = None;
        self.disk.crash(crash);
    }

    /// Opens what is on the disk and checks it against the model; the model becomes what was
    /// recovered.
    pub(crate) fn reopen(&mut self, context: &str) -> RecoveryReport {
        let mut saved = self.saved;
        self.saved.clean = false;
        let sync_once = !saved.clean && self.rng.random_bool(0.5);
        saved.synced = sync_once && self.disk.sync_all().is_ok();
        let opened = Log::open(
            Arc::new(self.disk.clone()),
            DIR,
            self.config.clone(),
            saved,
            self.now_ms,
        );
        let (log, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        let end = log.log_end_offset().0;
        self.log = Some(log);
        let candidates = [Some(self.model.clone()), self.alternative.take()];
        let flushed = self.flushed;
        let found = candidates.into_iter().flatten().find_map(|candidate| {
            // A log that was started over holds nothing of before.
            let enough = end >= flushed.min(candidate.end());
            candidate.prefix(end).filter(|_| enough)
        });
        let Some(found) = found else {
            panic!(
                "{context}: recovered {}..{end}, flushed to {flushed}, written {}..{}, {saved:?}, \
                 {report:?}, {:#?}",
                self.log().log_start_offset(),
                self.model.start,
                self.model.end(),
                self.disk.list(DIR),
            );
        };
        self.model = found;
        self.flushed = end;
        self.verify(context);
        report
    }

    /// Compares everything that can be asked of the log with the model.
    pub(crate) fn verify(&mut self, context: &str) {
        let log = self.log.as_ref().unwrap();
        log.check_invariants();
        let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
        assert_eq!(end, self.model.end(), "{context}");
        let first = self
            .model
            .batches
            .partition_point(|batch| batch.last < start);
        let wanted: Vec<u8> = self.model.batches[first..]
            .iter()
            .flat_map(|batch| batch.bytes.clone())
            .collect();
        assert!(
            read_all(log) == wanted,
            "{context}: the log holds other bytes"
        );
        for batch in &self.model.batches[first..] {
            let epoch = log.leader_epochs().epoch_of(Offset(batch.base.max(start)));
            assert_eq!(
                epoch,
                Some(LeaderEpoch(batch.epoch)),
                "{context}: {}",
                batch.base
            );
        }
        self.verify_lookups(context, first);
        if !self.deleted {
            self.verify_transactions(context);
            self.verify_rebuild(context);
        }
    }

    fn verify_lookups(&mut self, context: &str, first: usize) {
        let log = self.log.as_ref().unwrap();
        let start = log.log_start_offset().0;
        let end = Offset(self.model.end());
        for _ in 0..8 {
            let Some(pick) = self
                .model
                .batches
                .len()
                .checked_sub(first)
                .filter(|n| *n > 0)
            else {
                return;
            };
            let pick = first + self.rng.random_range(0..pick);
            let batch = &self.model.batches[pick];
            let from = self.rng.random_range(batch.base.max(start)..=batch.last);
            let read = log.read(Offset(from), 1, end, true).unwrap();
            assert!(bytes_of(&read) == batch.bytes, "{context}: batch at {from}");
            assert_eq!(read.next_offset.0, batch.last + 1, "{context}");
            let pick = self.rng.random_range(0..batch.timestamps.len());
            let timestamp = batch.timestamps[pick] + self.rng.random_range(-5..5);
            let mut records = self.model.batches[first..].iter().flat_map(|batch| {
                let offsets = batch.base..;
                offsets.zip(batch.timestamps.iter().copied())
            });
            let wanted = records.find(|(offset, time)| *time >= timestamp && *offset >= start);
            let found = log.offset_for_timestamp(timestamp, end).unwrap();
            let found = found.map(|found| (found.offset.0, found.timestamp));
            assert_eq!(found, wanted, "{context}: first at or after {timestamp}");
        }
    }

    fn verify_transactions(&self, context: &str) {
        let log = self.log.as_ref().unwrap();
        let mut open = std::collections::BTreeMap::new();
        let mut aborted = Vec::new();
        for batch in &self.model.batches {
            let Some(produced) = batch.producer.filter(|produced| produced.transactional) else {
                continue;
            };
            match produced.marker {
                None => {
                    open.entry(produced.id).or_insert(batch.base);
                }
                Some(committed) => {
                    let first = open.remove(&produced.id);
                    aborted.extend(
                        first
                            .filter(|_| !committed)
                            .map(|first| (first, batch.last, produced.id)),
                    );
                }
            }
        }
        aborted.sort_unstable();
        let end = Offset(self.model.end());
        let stable = open.values().min().copied().unwrap_or(end.0);
        let stable = stable.max(log.log_start_offset().0);
        assert_eq!(log.last_stable_offset(end).0, stable, "{context}");
        let found = log
            .aborted_transactions(log.log_start_offset(), end)
            .unwrap();
        let mut found: Vec<_> = found
            .iter()
            .map(|a| (a.first_offset.0, a.last_offset.0, a.producer_id.0))
            .collect();
        found.sort_unstable();
        aborted.retain(|(_, last, _)| *last >= log.log_start_offset().0);
        assert_eq!(found, aborted, "{context}");
    }

    /// A second log over nothing but the segments' bytes must come to the same state.
    fn verify_rebuild(&self, context: &str) {
        let log = self.log.as_ref().unwrap();
        let copy = crate::seeds::segments_alone(&self.disk, DIR);
        let open = OpenLog {
            clean: false,
            synced: false,
            ..self.saved
        };
        let (naive, _) = Log::open(Arc::new(copy), DIR, self.config.clone(), open, 0).unwrap();
        assert_eq!(naive.log_end_offset(), log.log_end_offset(), "{context}");
        let mut state = log.producers().clone();
        state.forget_replicated(log.log_end_offset());
        let mut rebuilt = naive.producers().clone();
        rebuilt.forget_replicated(log.log_end_offset());
        assert_eq!(state, rebuilt, "{context}: producer state");
    }
}

pub(crate) fn bytes_of(read: &LogRead) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(read.size_bytes as usize);
    for data in &read.data {
        match data {
            RecordData::Bytes(piece) => bytes.extend_from_slice(piece),
            RecordData::File(range) => bytes.extend_from_slice(&range.read().unwrap()),
        }
    }
    bytes
}

/// From the log start to the log end.
pub(crate) fn read_all(log: &Log) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut from = log.log_start_offset();
    while from < log.log_end_offset() {
        let read = log.read(from, 700, log.log_end_offset(), true).unwrap();
        assert!(read.next_offset > from, "a read makes progress");
        bytes.extend(bytes_of(&read));
        from = read.next_offset;
    }
    bytes
}
