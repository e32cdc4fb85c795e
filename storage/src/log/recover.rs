//! Recovery: from files to a log that is a prefix of what was appended.
//!
//! Below the trusted offset headers are walked only as far as indexes, epochs and producer state
//! need it; above it every batch must have a sound header, a matching CRC, increasing offsets and
//! an epoch that does not go back. Segments above must start exactly where the one before ends: a
//! lost end of a file is as bad as a torn one. The log is cut at the first violation.
//!
//! Batches behind a violation are never dropped silently: the report names the place, and their
//! bytes are kept in files with the suffix `.salvaged`. Damage below the trusted offset is left
//! where it is (cutting there would lose what was acknowledged); reads of it fail.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::checkpoint::{open_or_create, remove_if_there};
use super::epochs::EpochHistory;
use super::error::{Fault, LogError};
use super::index::{AbortedTransaction, SegmentIndex};
use super::open::OpenLog;
use super::producers::{Producers, snapshot};
use super::report::{Damage, DamageKind, RecoveryReport};
use super::scan::{Found, Scan, ScanError, WALK_BYTES};
use super::segment::{Segment, path};
use super::{Log, control::EndTransaction};
use crate::checkpoint::{LEADER_EPOCHS, parse_leader_epochs};
use crate::disk::{parent, read_file};
use crate::layout::SegmentFile;

/// A snapshot of a million producers is smaller.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
const EPOCH_FILE_BYTES_MAX: u64 = 16 << 20;
const SALVAGED_SUFFIX: &str = ".salvaged";

/// The plan of one recovery.
struct Walk {
    /// Batches from here on are checked.
    trusted: Offset,
    /// The producer state in the log is that of this offset.
    producers_from: Offset,
    /// The segment (by base offset) whose index is continued, and from which position.
    resume_base: Offset,
    resume_position: u64,
    /// The first segment follows from what is known to be durable.
    connected: bool,
    buffer: Vec<u8>,
    report: RecoveryReport,
}

/// How the walk through one segment ended.
enum Ended {
    AtEnd,
    /// Nothing from here on belongs to the log.
    Cut {
        position: u64,
        fault: Fault,
    },
}

impl Log {
    pub(super) fn recover(&mut self, open: &OpenLog) -> Result<RecoveryReport, LogError> {
        let mut report = RecoveryReport::default();
        let connected = self.is_connected(open);
        if connected {
            self.log_start_offset = self.log_start_offset.max(self.segments_start());
        }
        let snapshot = self.newest_snapshot(Offset(i64::MAX), &mut report);
        let trusted = match open.clean {
            true => Offset(i64::MAX),
            false => {
                let promised = snapshot
                    .as_ref()
                    .map_or_else(|| self.segments_start(), |(at, _)| *at);
                open.recovery_point.min(promised)
            }
        };
        let epochs_known = self.load_epochs(trusted);
        report.epochs_rebuilt = !epochs_known && !self.segments.is_empty();
        let mut walk = self.plan_walk(trusted, report)?;
        walk.connected = connected;
        self.walk_segments(&mut walk)?;
        self.finish_recovery(open, walk)
    }

    /// Whether the first segment is where the log may start. One that starts above everything that
    /// was ever durable is the rest of a log whose beginning is lost.
    fn is_connected(&self, open: &OpenLog) -> bool {
        let first = self.segments_start();
        open.clean || first <= self.log_start_offset.max(open.recovery_point)
    }

    /// The newest sound snapshot at or below an offset. Those that are not sound are removed.
    fn newest_snapshot(
        &mut self,
        at_most: Offset,
        report: &mut RecoveryReport,
    ) -> Option<(Offset, Producers)> {
        while let Some(&offset) = self.snapshots.range(..=at_most).next_back() {
            let path = path(&self.dir, offset, SegmentFile::ProducerSnapshot);
            let bytes = read_file(&*self.disk, &path, SNAPSHOT_BYTES_MAX).ok();
            if let Some(producers) = bytes.and_then(|bytes| snapshot::decode(&bytes, offset)) {
                return Some((offset, producers));
            }
            // If it cannot be removed it is not sound next time either.
            let _ = remove_if_there(&*self.disk, &path);
            self.snapshots.remove(&offset);
            report.discarded_snapshots += 1;
        }
        None
    }

    /// Epochs that start below the trusted offset; false if the file does not say.
    fn load_epochs(&mut self, trusted: Offset) -> bool {
        let path = format!("{}/{LEADER_EPOCHS}", self.dir);
        let bytes = read_file(&*self.disk, &path, EPOCH_FILE_BYTES_MAX).ok();
        let entries = bytes.and_then(|bytes| parse_leader_epochs(&bytes).ok());
        match entries.and_then(EpochHistory::from_entries) {
            Some(mut epochs) => {
                self.epochs_version = u64::from(epochs.truncate_from_end(trusted));
                self.epochs = epochs;
                true
            }
            None => {
                self.epochs_version = 1;
                false
            }
        }
    }

    /// Decides from where on which state is rebuilt.
    fn plan_walk(&mut self, trusted: Offset, mut report: RecoveryReport) -> Result<Walk, LogError> {
        let mut walk = Walk {
            trusted,
            producers_from: self.segments_start(),
            resume_base: self.segments_start(),
            resume_position: 0,
            connected: true,
            buffer: vec![0; WALK_BYTES],
            report: RecoveryReport::default(),
        };
        // Not the segment that starts at the trusted offset but the one before: it may have been
        // sealed since, and its indexes not be written to their end.
        let last_trusted = Offset(trusted.0.saturating_sub(1));
        let Some(resume) = self.segments.get(self.segment_of(last_trusted)) else {
            walk.report = report;
            return Ok(walk);
        };
        walk.resume_base = resume.base_offset;
        let index = resume.load_index(&*self.disk, &self.dir);
        // Without the index of the resumed segment its aborted transactions must come from the
        // log: the producer state then starts at or before the segment.
        let at_most = match index {
            Some(_) => trusted,
            None => resume.base_offset.min(trusted),
        };
        self.resume_index(index, &mut walk)?;
        if let Some((offset, producers)) = self.newest_snapshot(at_most, &mut report) {
            self.producers = producers;
            walk.producers_from = offset;
        }
        walk.report = report;
        Ok(walk)
    }

    /// Keeps what the index of the resumed segment says about trusted offsets.
    fn resume_index(
        &mut self,
        index: Option<SegmentIndex>,
        walk: &mut Walk,
    ) -> Result<(), LogError> {
        let at = self.segment_of(walk.resume_base);
        let segment = &self.segments[at];
        let Some(mut index) = index else {
            self.segments[at].set_index(SegmentIndex::empty());
            return Ok(());
        };
        let relative = (walk.trusted.0 - segment.base_offset.0).max(0) as u64;
        index.truncate(relative, segment.size_bytes, segment.base_offset);
        if let Some(entry) = index.offsets.last().copied() {
            let file = segment.file(&*self.disk, &self.dir)?;
            let mut scan = segment.scan(&**file, 0, &mut walk.buffer);
            walk.resume_position = segment
                .verified(&mut scan, Some(entry))
                .map_err(|error| LogError::io(segment.path(&self.dir), error))?;
            if walk.resume_position == 0 {
                // The index is of another time.
                let aborted = std::mem::take(&mut index.aborted);
                index = SegmentIndex {
                    aborted,
                    ..SegmentIndex::empty()
                };
            }
        }
        self.segments[at].set_index(index);
        Ok(())
    }

    /// Replays the segments one after another; the one that is replayed is the last in the list.
    fn walk_segments(&mut self, walk: &mut Walk) -> Result<(), LogError> {
        let first = match walk.report.epochs_rebuilt {
            true => 0,
            false => self.segment_of(walk.resume_base.min(walk.producers_from)),
        };
        let mut later: VecDeque<Segment> = self.segments.split_off(first).into();
        self.log_end_offset = match later.front() {
            Some(first) if walk.connected => first.base_offset,
            _ => self.log_start_offset,
        };
        while let Some(mut segment) = later.pop_front() {
            let base = segment.base_offset;
            let gap = base.0 - self.log_end_offset.0;
            let connects = gap == 0 || gap > i64::from(i32::MAX);
            if base > walk.trusted && !connects {
                let path = segment.path(&self.dir);
                later.push_front(segment);
                return self.cut(walk, path, 0, Fault::Offsets, later);
            }
            if gap < 0 {
                // Two files claim the same offsets, and both are trusted: nobody can tell which.
                let (path, fault) = (segment.path(&self.dir), Fault::Offsets);
                return Err(LogError::Corrupt {
                    path,
                    position: 0,
                    fault,
                });
            }
            self.log_end_offset = base;
            if base > walk.resume_base {
                segment.set_index(SegmentIndex::empty());
            }
            if let Some(index) = self.segments.last_mut().and_then(Segment::loaded_index_mut) {
                index.close_times();
            }
            self.segments.push(segment);
            if let Ended::Cut { position, fault } = self.walk_segment(walk, later.is_empty())? {
                let path = path(&self.dir, base, SegmentFile::Log);
                return self.cut(walk, path, position, fault, later);
            }
        }
        Ok(())
    }

    /// Where the walk through the last segment in the list has to start.
    fn walk_start(&self, walk: &Walk) -> Result<u64, LogError> {
        let at = self.segments.len() - 1;
        let segment = &self.segments[at];
        let base = segment.base_offset;
        if walk.report.epochs_rebuilt || base > walk.resume_base || walk.producers_from <= base {
            return Ok(0);
        }
        let file = segment.file(&*self.disk, &self.dir)?;
        let found = segment.locate(&**file, self.index(at)?, walk.producers_from);
        let producers_at = match found {
            Ok(Some(found)) => found.position,
            Ok(None) => u64::from(segment.size_bytes),
            // Damage: the walk meets it again and decides.
            Err(ScanError::Bad { .. }) => 0,
            Err(error) => return Err(self.fault(segment, error)),
        };
        Ok(match base == walk.resume_base {
            true => producers_at.min(walk.resume_position),
            false => producers_at,
        })
    }

    fn walk_segment(&mut self, walk: &mut Walk, is_last: bool) -> Result<Ended, LogError> {
        let start = self.walk_start(walk)?;
        let segment = &self.segments[self.segments.len() - 1];
        let file = Arc::clone(segment.file(&*self.disk, &self.dir)?);
        let (path, size) = (segment.path(&self.dir), u64::from(segment.size_bytes));
        let mut buffer = std::mem::take(&mut walk.buffer);
        let mut scan = segment.scan(&*file, start, &mut buffer);
        scan.expected = self.log_end_offset;
        let ended = self.walk_batches(&mut scan, walk, &path, size, is_last);
        walk.buffer = buffer;
        ended.map_err(|error| LogError::io(path, error))
    }

    fn walk_batches(
        &mut self,
        scan: &mut Scan<'_>,
        walk: &mut Walk,
        path: &str,
        size: u64,
        is_last: bool,
    ) -> io::Result<Ended> {
        loop {
            let checked = match scan.next() {
                Ok(None) => return Ok(Ended::AtEnd),
                Ok(Some(found)) => self
                    .check(scan, &found, walk)?
                    .map(|()| found)
                    .map_err(|fault| (found.position, fault)),
                Err(ScanError::Bad { position, fault }) => Err((position, fault)),
                Err(ScanError::Io(error)) => return Err(error),
            };
            let (position, fault) = match checked {
                Ok(found) => {
                    let marker = scan.marker(&found)?;
                    self.take(&found, marker.as_ref(), walk);
                    continue;
                }
                Err(damage) => damage,
            };
            if self.log_end_offset >= walk.trusted {
                return Ok(Ended::Cut { position, fault });
            }
            scan.expected = self.log_end_offset;
            let next = scan.find_valid(position + 1)?.map(|found| found.position);
            if next.is_none() && is_last {
                return Ok(Ended::Cut { position, fault });
            }
            let until_position = next.unwrap_or(size);
            let kind = DamageKind::Kept { until_position };
            walk.report.damage.push(Damage {
                path: path.to_owned(),
                position,
                fault,
                kind,
            });
            scan.position = until_position;
        }
    }

    /// Above the trusted offset a header is not enough.
    fn check(
        &self,
        scan: &mut Scan<'_>,
        found: &Found,
        walk: &mut Walk,
    ) -> io::Result<Result<(), Fault>> {
        if found.header.base_offset < walk.trusted {
            return Ok(Ok(()));
        }
        if !scan.crc_is_valid(found)? {
            return Ok(Err(Fault::Crc));
        }
        if self
            .epochs
            .latest()
            .is_some_and(|latest| found.header.leader_epoch < latest)
        {
            return Ok(Err(Fault::Epoch));
        }
        walk.report.checked_batches += 1;
        walk.report.checked_bytes += found.header.size_bytes() as u64;
        Ok(Ok(()))
    }

    fn take(&mut self, found: &Found, marker: Option<&EndTransaction>, walk: &Walk) {
        let interval_bytes = self.config.index_interval_bytes;
        if let Some(segment) = self.segments.last_mut() {
            let base = segment.base_offset;
            let resumed = base == walk.resume_base && found.position >= walk.resume_position;
            if resumed || base > walk.resume_base {
                segment.observe(found.position as u32, &found.header, interval_bytes);
            }
        }
        let producers = found.header.base_offset >= walk.producers_from;
        self.replay(&found.header, marker, producers);
    }

    /// Ends the log at a violation: in the last segment of the list, or (when `path` is that of
    /// the first later one) behind it.
    fn cut(
        &mut self,
        walk: &mut Walk,
        path: String,
        position: u64,
        fault: Fault,
        later: VecDeque<Segment>,
    ) -> Result<(), LogError> {
        let in_last = self
            .segments
            .last()
            .is_some_and(|last| last.path(&self.dir) == path);
        let mut valid_batches_after = 0;
        if in_last {
            let last = &self.segments[self.segments.len() - 1];
            valid_batches_after += self.count_valid(last, position + 1, &mut walk.buffer)?;
        }
        for segment in &later {
            valid_batches_after += self.count_valid(segment, 0, &mut walk.buffer)?;
        }
        let mut salvaged = Vec::new();
        if valid_batches_after > 0 && in_last {
            salvaged.extend(self.salvage_end(position)?);
        }
        for segment in later.iter().rev() {
            walk.report.truncated_bytes += u64::from(segment.size_bytes);
            walk.report.dropped_segments += 1;
            salvaged.extend(self.drop_segment(segment, valid_batches_after > 0)?);
        }
        if in_last {
            walk.report.truncated_bytes += self.cut_last(position)?;
        }
        let kind = match valid_batches_after {
            0 => DamageKind::TornTail,
            _ => DamageKind::CutOff {
                valid_batches_after,
                salvaged,
            },
        };
        walk.report.damage.push(Damage {
            path,
            position,
            fault,
            kind,
        });
        Ok(())
    }

    fn count_valid(
        &self,
        segment: &Segment,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<u64, LogError> {
        let file = segment.file(&*self.disk, &self.dir)?;
        let mut scan = segment.scan(&**file, from, buffer);
        let mut count = 0;
        let mut position = from;
        loop {
            let found = scan.find_valid(position);
            let found = found.map_err(|error| LogError::io(segment.path(&self.dir), error))?;
            let Some(found) = found else { return Ok(count) };
            count += 1;
            position = found.end();
        }
    }

    /// Copies the end of the last segment into a file of its own, synced.
    fn salvage_end(&self, position: u64) -> Result<Option<String>, LogError> {
        let last = &self.segments[self.segments.len() - 1];
        let path = format!("{}{SALVAGED_SUFFIX}", last.path(&self.dir));
        let copy = || -> io::Result<()> {
            let from = self.disk.open(&last.path(&self.dir))?;
            let to = open_or_create(&*self.disk, &path)?;
            to.truncate(0)?;
            let mut buffer = vec![0; WALK_BYTES];
            let mut at = position;
            loop {
                let read = from.read_at(at, &mut buffer)?;
                if read == 0 {
                    return to.sync_data();
                }
                to.write_at(at - position, &[IoSlice::new(&buffer[..read])])?;
                at += read as u64;
            }
        };
        copy().map_err(|error| LogError::io(&*path, error))?;
        Ok(Some(path))
    }

    /// Takes a segment out of the log, durably, before the next one is: a gap must not appear.
    fn drop_segment(&self, segment: &Segment, keep: bool) -> Result<Option<String>, LogError> {
        let path = segment.path(&self.dir);
        let salvaged = format!("{path}{SALVAGED_SUFFIX}");
        let removed = match keep {
            true => self.disk.rename(&path, &salvaged),
            false => remove_if_there(&*self.disk, &path),
        };
        removed.map_err(|error| LogError::io(path, error))?;
        self.remove_segment_files(segment.base_offset)?;
        self.sync_directory()?;
        Ok(keep.then_some(salvaged))
    }

    fn cut_last(&mut self, position: u64) -> Result<u64, LogError> {
        let at = self.segments.len() - 1;
        let segment = &mut self.segments[at];
        let file = segment.file(&*self.disk, &self.dir)?;
        file.truncate(position)
            .and_then(|()| file.sync_data())
            .map_err(|error| {
                LogError::io(
                    path(&self.dir, segment.base_offset, SegmentFile::Log),
                    error,
                )
            })?;
        let cut = u64::from(segment.size_bytes) - position;
        segment.size_bytes = position as u32;
        Ok(cut)
    }

    fn finish_recovery(&mut self, open: &OpenLog, walk: Walk) -> Result<RecoveryReport, LogError> {
        let mut report = walk.report;
        self.size_bytes = self.segments.iter().map(|s| u64::from(s.size_bytes)).sum();
        self.log_end_offset = self.log_end_offset.max(self.segments_start());
        self.remove_snapshots_above(self.log_end_offset)?;
        if walk.producers_from > self.log_end_offset {
            self.rebuild_producers()?;
        }
        let changed = self.epochs.truncate_from_end(self.log_end_offset)
            | self.epochs.truncate_from_start(self.log_start_offset);
        self.epochs_version += u64::from(changed);
        if !open.clean {
            // Names may be visible without being durable.
            self.directory.changes = 1;
            self.directory.new = true;
        }
        let removed = self.remove_unsound_indexes(walk.resume_base)?;
        if removed || report.checked_batches > 0 || report.truncated_bytes > 0 {
            self.sync_recovered(walk.resume_base)?;
        }
        self.recovery_point = self.log_end_offset;
        let snapshot = self.snapshots.iter().next_back().copied();
        let promised = snapshot.unwrap_or_else(|| self.segments_start());
        self.checkpointed = walk.trusted.min(promised).min(self.log_end_offset);
        report.trusted_to = walk.trusted.min(self.log_end_offset);
        report.log_end_offset = self.log_end_offset;
        report.lost_below_recovery_point =
            (self.log_end_offset < open.recovery_point).then_some(open.recovery_point);
        if self.log_end_offset < self.log_start_offset {
            self.truncate_fully_and_start_at(self.log_start_offset)?;
        }
        Ok(report)
    }

    /// Index files that do not say what was found: they would be trusted once the recovery point
    /// has moved past them. The next checkpoint writes them anew.
    fn remove_unsound_indexes(&self, from: Offset) -> Result<bool, LogError> {
        let mut removed = false;
        for segment in &self.segments[self.segment_of(from)..] {
            if segment
                .loaded_index()
                .is_some_and(|index| !index.persisted.sound)
            {
                self.remove_index_files(segment.base_offset)?;
                removed = true;
            }
        }
        Ok(removed)
    }

    /// What was recovered is acknowledged and built upon from now on: it must be durable.
    fn sync_recovered(&mut self, from: Offset) -> Result<(), LogError> {
        for segment in &self.segments[self.segment_of(from)..] {
            let file = segment.file(&*self.disk, &self.dir)?;
            file.sync_data()
                .map_err(|error| LogError::io(segment.path(&self.dir), error))?;
        }
        self.sync_directory()?;
        let parent = parent(&self.dir);
        self.disk
            .sync_dir(parent)
            .map_err(|error| LogError::io(parent, error))?;
        self.directory.synced = self.directory.changes;
        self.directory.new = false;
        Ok(())
    }

    /// The producer state at the log end: the newest sound snapshot and the batches since.
    pub(super) fn rebuild_producers(&mut self) -> Result<(), LogError> {
        let mut report = RecoveryReport::default();
        let (from, mut producers) = self
            .newest_snapshot(self.log_end_offset, &mut report)
            .unwrap_or_else(|| (self.segments_start(), Producers::default()));
        let count_max = self.config.producer_count_max;
        self.walk_headers(
            self.segment_of(from)..self.segments.len(),
            |found, marker| {
                if found.header.base_offset >= from {
                    producers.replay(&found.header, marker.as_ref(), count_max);
                }
            },
        )?;
        self.producers = producers;
        Ok(())
    }

    /// The aborted transactions of a segment whose file of them is lost.
    pub(super) fn aborted_from_log(&self, at: usize) -> Result<Vec<AbortedTransaction>, LogError> {
        let (base, count_max) = (
            self.segments[at].base_offset,
            self.config.producer_count_max,
        );
        let mut producers = Producers::default();
        let mut aborted = Vec::new();
        self.walk_headers(0..at + 1, |found, marker| {
            let ended = producers.replay(&found.header, marker.as_ref(), count_max);
            aborted.extend(ended.filter(|entry| entry.last_offset >= base));
        })?;
        Ok(aborted)
    }

    /// Every batch of some segments by its header, stepping over damage.
    fn walk_headers(
        &self,
        segments: Range<usize>,
        mut visit: impl FnMut(&Found, Option<EndTransaction>),
    ) -> Result<(), LogError> {
        let mut buffer = vec![0; WALK_BYTES];
        for segment in &self.segments[segments] {
            let io = |error| LogError::io(segment.path(&self.dir), error);
            let file = segment.file(&*self.disk, &self.dir)?;
            let mut scan = segment.scan(&**file, 0, &mut buffer);
            loop {
                match scan.next() {
                    Ok(Some(found)) => {
                        let marker = scan.marker(&found).map_err(io)?;
                        visit(&found, marker);
                    }
                    Ok(None) => break,
                    Err(ScanError::Io(error)) => return Err(io(error)),
                    Err(ScanError::Bad { position, .. }) => {
                        match scan.find_valid(position + 1).map_err(io)? {
                            Some(found) => scan.position = found.position,
                            None => break,
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
