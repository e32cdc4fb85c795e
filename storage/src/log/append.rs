//! Appending: validate, decide about duplicates, roll, stamp, write once, take note.
//!
//! Everything that can fail comes before the write; after the write nothing can.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use ottla_protocol::batch::{BatchHeader, RecordBatch, TimestampType};
use ottla_protocol::types::{LeaderEpoch, Offset};

use super::control::{self, EndTransaction};
use super::error::{AppendError, LogError};
use super::producers::{ProducerBatch, Sequence, snapshot};
use super::segment::Segment;
use super::{Log, metadata, validate};
use crate::disk::DiskFile;

/// Dirty data is handed to write-back in pieces of this size.
const WRITE_BACK_BYTES: u32 = 8 << 20;

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: everything is checked.
    Client { produce_version: i16 },
    /// The same, of a batch whose records were opened and checked already
    /// ([`super::RecordWork`]).
    ClientOpened { produce_version: i16 },
    /// The broker's own records: offset commits, transaction markers, internal logs. Sequences
    /// are not checked; control batches are allowed.
    Coordinator,
    /// Copied from a leader, which decided already: offsets and leader epoch are kept.
    Replica,
}

/// The circumstances of an append.
#[derive(Clone, Copy, Debug)]
pub struct AppendAt {
    /// The leadership that appends; not used for [`Origin::Replica`].
    pub leader_epoch: LeaderEpoch,
    pub now_ms: i64,
    pub origin: Origin,
}

/// A batch that is in the log.
#[derive(Debug)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The broker's time given to the records, or -1 when they keep the producer's.
    pub log_append_time_ms: i64,
    /// The batch was in the log already, here; nothing was written.
    pub duplicate: bool,
    pub size_bytes: u32,
    /// A stretch worth writing back now, when enough has gathered.
    pub write_back: Option<WriteBack>,
    /// A segment was sealed: a checkpoint would let its indexes be written and released.
    pub rolled: bool,
}

/// A stretch of a segment that should go to the disk without anybody waiting for it.
pub struct WriteBack {
    file: Arc<dyn DiskFile>,
    range: Range<u64>,
}

impl WriteBack {
    pub(super) fn new(file: Arc<dyn DiskFile>, range: Range<u64>) -> WriteBack {
        WriteBack { file, range }
    }

    /// Starts the write-back; for a thread that may block. A hint: failures show at the sync.
    pub fn start(&self) -> io::Result<()> {
        self.file.start_write_back(self.range.clone())
    }

    /// Waits until it is over.
    pub fn finish(&self) -> io::Result<()> {
        self.file.finish_write_back(self.range.clone())
    }

    pub fn len_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl std::fmt::Debug for WriteBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriteBack({:?})", self.range)
    }
}

/// What was decided about a batch before it is written.
pub(super) enum Plan {
    Duplicate(ProducerBatch),
    Write {
        base_offset: Offset,
        marker: Option<EndTransaction>,
    },
}

impl Log {
    /// Appends one batch. The caller has checked the CRC, before it took the partition's lock.
    ///
    /// For a leader ([`Origin::Client`], [`Origin::Coordinator`]) offsets, leader epoch and, on a
    /// LogAppendTime topic, the timestamp are set here. A duplicate of one of the producer's last
    /// batches is answered with the place of the original.
    pub fn append(&mut self, batch: RecordBatch, at: &AppendAt) -> Result<Appended, AppendError> {
        let appended = self.append_one(batch, at);
        if !matches!(&appended, Ok(done) if !done.duplicate) {
            self.end_ahead();
        }
        appended
    }

    fn append_one(
        &mut self,
        mut batch: RecordBatch,
        at: &AppendAt,
    ) -> Result<Appended, AppendError> {
        if self.poisoned {
            return Err(LogError::Poisoned.into());
        }
        debug_assert!(batch.view().crc_is_valid(), "the caller checks the CRC");
        let (base_offset, marker) = match self.plan(&mut batch, at)? {
            Plan::Duplicate(original) => return Ok(self.duplicate(&original)),
            Plan::Write {
                base_offset,
                marker,
            } => (base_offset, marker),
        };
        if at.origin != Origin::Replica {
            batch.stamp(base_offset, at.leader_epoch);
        }
        let header = *batch.header();
        let written = self
            .prepare_segment(&header, at.now_ms)
            .and_then(|rolled| Ok((rolled, self.write_or_find(&batch)?)));
        let (rolled, position) = match written {
            Ok(written) => written,
            Err(error) => {
                self.unwritten_firsts.note(&header, &self.producers);
                return Err(error.into());
            }
        };
        self.unwritten_firsts.written(&header);
        self.note(position, &header, marker.as_ref());
        let write_back = self.write_back();
        self.tail.push(batch);
        Ok(Appended {
            base_offset,
            last_offset: header.last_offset(),
            log_append_time_ms: append_time(&header),
            duplicate: false,
            size_bytes: header.size_bytes() as u32,
            write_back,
            rolled,
        })
    }

    /// A batch of a client was refused for want of room: what follows it must not take its place.
    pub fn refused(&mut self, header: &BatchHeader) {
        self.end_ahead();
        self.unwritten_firsts.note(header, &self.producers);
    }

    fn plan(&self, batch: &mut RecordBatch, at: &AppendAt) -> Result<Plan, AppendError> {
        match at.origin {
            Origin::Replica => self.plan_replicated(batch),
            Origin::Client { .. } | Origin::ClientOpened { .. } => {
                self.plan_leading(batch, at, true)
            }
            Origin::Coordinator => self.plan_leading(batch, at, false),
        }
    }

    fn plan_leading(
        &self,
        batch: &mut RecordBatch,
        at: &AppendAt,
        sequenced: bool,
    ) -> Result<Plan, AppendError> {
        let checked = validate::check(batch, &self.config, at)?;
        self.check_growth(self.log_end_offset, batch.header())?;
        self.check_epoch(at.leader_epoch)?;
        let header = batch.header();
        let marker = control::end_transaction(batch.view());
        let plan = self.plan_producer(header, marker, sequenced)?;
        if let Plan::Duplicate(_) = plan {
            return Ok(plan);
        }
        if self.config.timestamp_type == TimestampType::LogAppendTime {
            batch.set_log_append_time(at.now_ms);
        } else if let Some(max_timestamp) = checked.max_timestamp
            && max_timestamp != header.max_timestamp
        {
            batch.set_max_timestamp(max_timestamp);
        }
        Ok(plan)
    }

    /// Whether the producer may append the batch at the log end now.
    pub(super) fn plan_producer(
        &self,
        header: &BatchHeader,
        marker: Option<EndTransaction>,
        sequenced: bool,
    ) -> Result<Plan, AppendError> {
        if let Some(marker) = &marker {
            self.producers.check_marker(header, marker)?;
        } else if header.producer_id.is_some()
            && !header.is_control()
            && let Sequence::Duplicate(original) = self.producers.check(header, sequenced)?
        {
            return Ok(Plan::Duplicate(original));
        } else if sequenced {
            self.unwritten_firsts.check(header, &self.producers)?;
        }
        Ok(Plan::Write {
            base_offset: self.log_end_offset,
            marker,
        })
    }

    fn plan_replicated(&self, batch: &RecordBatch) -> Result<Plan, AppendError> {
        let header = batch.header();
        let base_offset = header.base_offset;
        if base_offset < self.log_end_offset || header.last_offset_delta < 0 {
            let log_end_offset = self.log_end_offset;
            return Err(AppendError::OffsetNotDense {
                got: base_offset,
                log_end_offset,
            });
        }
        self.check_growth(base_offset, header)?;
        self.check_epoch(header.leader_epoch)?;
        let marker = control::end_transaction(batch.view());
        Ok(Plan::Write {
            base_offset,
            marker,
        })
    }

    pub(super) fn check_growth(
        &self,
        base: Offset,
        header: &BatchHeader,
    ) -> Result<(), AppendError> {
        let last = base.checked_add(i64::from(header.last_offset_delta));
        match last.is_some_and(|last| last.0 < i64::MAX) {
            true => Ok(()),
            false => Err(AppendError::OffsetsExhausted),
        }
    }

    pub(super) fn check_epoch(&self, got: LeaderEpoch) -> Result<(), AppendError> {
        match self.epochs.latest() {
            Some(current) if got < current => Err(AppendError::LeaderEpoch { got, current }),
            _ => Ok(()),
        }
    }

    fn duplicate(&self, original: &ProducerBatch) -> Appended {
        let append_time = self.config.timestamp_type == TimestampType::LogAppendTime;
        Appended {
            base_offset: original.first_offset(),
            last_offset: original.last_offset,
            log_append_time_ms: if append_time { original.timestamp } else { -1 },
            duplicate: true,
            size_bytes: 0,
            write_back: None,
            rolled: false,
        }
    }

    /// Makes sure that the batch fits into the active segment; true if one was sealed for that.
    fn prepare_segment(&mut self, header: &BatchHeader, now_ms: i64) -> Result<bool, LogError> {
        if self.segments.is_empty() {
            self.create_directory()?;
            self.add_segment(self.segment_base(header), now_ms)?;
            return Ok(false);
        }
        self.load_active()?;
        self.cut_leftovers()?;
        if !self.should_roll(header, now_ms, 0)? {
            return Ok(false);
        }
        self.end_ahead();
        self.roll(self.segment_base(header), now_ms)?;
        Ok(true)
    }

    /// A new segment starts at the log end, so that recovery can tell a lost segment from none,
    /// unless the offsets of the batch would be too far away from there.
    fn segment_base(&self, header: &BatchHeader) -> Offset {
        let distance = header.last_offset().0 - self.log_end_offset.0;
        match distance <= i64::from(i32::MAX) {
            true => self.log_end_offset,
            false => header.base_offset,
        }
    }

    /// The active segment with its handle and index in memory.
    pub(super) fn load_active(&mut self) -> Result<(), LogError> {
        if let Some(active) = self.segments.last() {
            active.file(&*self.disk, &self.dir)?;
            active.index(&*self.disk, &self.dir, self.config.index_interval_bytes)?;
            // A checkpoint writes those of the active segment: it must have all of them.
            self.know_aborted(self.segments.len() - 1)?;
        }
        Ok(())
    }

    /// `ahead_bytes`: of what comes before the batch and is not in the log yet.
    pub(super) fn should_roll(
        &mut self,
        header: &BatchHeader,
        now_ms: i64,
        ahead_bytes: u64,
    ) -> Result<bool, LogError> {
        let config = &self.config;
        let Some(active) = self.segments.last_mut() else {
            return Ok(false);
        };
        let size = header.size_bytes() as u64;
        let far = header.last_offset().0 - active.base_offset.0 > i64::from(i32::MAX);
        if far {
            return Ok(true);
        }
        if active.size_bytes == 0 {
            return Ok(false);
        }
        let limit = u64::from(config.segment_size_bytes.min(i32::MAX as u32));
        let full = u64::from(active.size_bytes) + ahead_bytes + size > limit;
        let index_full = active
            .loaded_index()
            .is_some_and(|index| index.is_full(config.segment_index_bytes));
        if full || index_full {
            return Ok(true);
        }
        let first = active.first_timestamp(&*self.disk, &self.dir)?;
        let age_ms = match first >= 0 {
            true => header.max_timestamp.saturating_sub(first),
            false => now_ms.saturating_sub(active.created_ms),
        };
        Ok(age_ms > config.segment_ms)
    }

    /// Seals the active segment and starts a new one.
    pub(super) fn roll(&mut self, base_offset: Offset, now_ms: i64) -> Result<(), LogError> {
        // First: nobody cuts a sealed segment that is longer than its data.
        self.cut_before_seal()?;
        self.add_segment(base_offset, now_ms)?;
        let sealed = self.segments.len() - 2;
        let sealed = &mut self.segments[sealed];
        if let Some(index) = sealed.loaded_index_mut() {
            index.close_times();
        }
        self.pending_snapshots
            .push((base_offset, snapshot::encode(&self.producers)));
        Ok(())
    }

    pub(super) fn add_segment(&mut self, base: Offset, now_ms: i64) -> Result<(), LogError> {
        let segment = Segment::create(&*self.disk, &self.dir, base, now_ms)?;
        self.directory.changes += 1;
        self.segments.push(segment);
        self.written_back = 0;
        Ok(())
    }

    /// Makes the directory of a new log now instead of with the first append, so that it can be
    /// seen where the log is. Not synced: the first flush does that.
    pub fn create_now(&mut self) -> Result<(), LogError> {
        self.create_directory()
    }

    /// The directory of a log that never held anything.
    pub(super) fn create_directory(&mut self) -> Result<(), LogError> {
        if self.directory.exists {
            return Ok(());
        }
        let dir = &*self.dir;
        self.disk
            .create_dir(dir)
            .map_err(|error| LogError::io(dir, error))?;
        self.directory.new = true;
        self.directory.changes += 1;
        if !self.topic_id.is_zero() {
            metadata::write(&*self.disk, dir, self.topic_id)
                .map_err(|error| LogError::io(dir, error))?;
            self.directory.metadata_unsynced = true;
        }
        self.directory.exists = true;
        // The file is written even if no epoch is ever assigned: a missing one means damage.
        self.epochs_version += 1;
        Ok(())
    }

    /// One write of all batches at the end of the active segment; answers where. A failure leaves
    /// the log as it was, with garbage behind its end at most.
    pub(super) fn write(&mut self, batches: &[RecordBatch]) -> Result<u32, LogError> {
        let (segment_size_bytes, whole) = (self.config.segment_size_bytes, self.config.preallocate);
        let active = self.segments.last_mut().expect("prepare_segment made one");
        let position = active.size_bytes;
        let start = u64::from(position);
        let parts: Vec<IoSlice<'_>> = batches.iter().map(|b| IoSlice::new(b.bytes())).collect();
        let end = start + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let file = Arc::clone(active.open_file().expect("load_active opened it"));
        let written = active
            .reserve(end, segment_size_bytes, whole)
            .and_then(|()| file.write_at(start, &parts));
        let Err(error) = written else {
            return Ok(position);
        };
        // What may lie behind the end must be gone before the next write, however long that takes.
        let _ = self.cut_behind_end();
        Err(LogError::io(
            self.segments[self.segments.len() - 1].path(&self.dir),
            error,
        ))
    }

    /// Takes note of a batch that is in the active segment's file.
    pub(super) fn note(
        &mut self,
        position: u32,
        header: &BatchHeader,
        marker: Option<&EndTransaction>,
    ) {
        let interval_bytes = self.config.index_interval_bytes;
        if let Some(active) = self.segments.last_mut() {
            active.observe(position, header, interval_bytes);
        }
        self.size_bytes += header.size_bytes() as u64;
        self.zeros.appended(header.size_bytes() as u64);
        self.replay(header, marker, true);
    }

    /// What follows from a batch being in the log. Appending and recovering share this.
    pub(super) fn replay(
        &mut self,
        header: &BatchHeader,
        marker: Option<&EndTransaction>,
        producers: bool,
    ) {
        let news = self.epochs.assign(header.leader_epoch, header.base_offset);
        self.epochs_version += u64::from(news | std::mem::take(&mut self.epoch_unused));
        self.log_end_offset = header.last_offset().next();
        if !producers {
            return;
        }
        let aborted = self
            .producers
            .replay(header, marker, self.config.producer_count_max);
        let index = self.segments.last_mut().and_then(Segment::loaded_index_mut);
        if let (Some(aborted), Some(index)) = (aborted, index) {
            index.observe_aborted(aborted);
        }
    }

    fn write_back(&mut self) -> Option<WriteBack> {
        let active = self.segments.last()?;
        if active.size_bytes - self.written_back < WRITE_BACK_BYTES {
            return None;
        }
        let range = u64::from(self.written_back)..u64::from(active.size_bytes);
        self.written_back = active.size_bytes;
        Some(WriteBack {
            file: Arc::clone(active.open_file()?),
            range,
        })
    }
}

fn append_time(header: &BatchHeader) -> i64 {
    match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => -1,
    }
}
