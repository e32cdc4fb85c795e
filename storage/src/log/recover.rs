//! Recovery: from files to a log that is a prefix of what was appended.
//!
//! Below the trusted offset headers are walked only as far as indexes, epochs and producer state
//! need it; above it every batch must have a sound header, a matching CRC, increasing offsets and
//! an epoch that does not go back. Segments above must start exactly where the one before ends: a
//! lost end of a file is as bad as a torn one. The log is cut at the first violation.
//! Zeros up to the end of a file are the end of its data, where nothing that was promised is
//! missing: they are written ahead (`zeros.rs`).
//!
//! What is read above the trusted offset must be what the disk holds, not what the kernel still has
//! in memory after a sync that failed: an acknowledgement will be built upon it. So clean pages are
//! forgotten first; pages that are still to be written stay, and are synced at the end.
//!
//! Batches behind a violation are never dropped silently: the report names the place, and their
//! bytes are kept in files with the suffix `.salvaged`. Damage below the trusted offset is left
//! where it is (cutting there would lose what was acknowledged); reads of it fail.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::checkpoint::remove_if_there;
use super::epochs::EpochHistory;
use super::error::{Fault, LogError};
use super::index::SegmentIndex;
use super::open::OpenLog;
use super::producers::{Producers, snapshot};
use super::report::{Damage, DamageKind, RecoveryReport};
use super::scan::{Found, Scan, ScanError, WALK_BYTES};
use super::segment::{Segment, path};
use super::{DamagedPlace, Log, control::EndTransaction};
use crate::checkpoint::{LEADER_EPOCHS, parse_leader_epochs};
use crate::disk::{is_out_of_descriptors, parent, read_file};
use crate::layout::SegmentFile;

mod damage;
mod rebuild;

pub(super) use rebuild::aborted_in_last;

/// A snapshot of a million producers is smaller.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// A clean start reads next to nothing, but a thousand times.
const CLEAN_WALK_BYTES: usize = 16 << 10;
const EPOCH_FILE_BYTES_MAX: u64 = 16 << 20;

/// The plan of one recovery.
struct Walk {
    /// Batches from here on are checked.
    trusted: Offset,
    /// What ends below this has lost something.
    promised: Offset,
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
    /// What follows are zeros that were written ahead of the data.
    AtZeros {
        position: u64,
    },
    /// Nothing from here on belongs to the log.
    Cut {
        position: u64,
        fault: Fault,
    },
}

impl Log {
    pub(super) fn recover(&mut self, open: &OpenLog) -> Result<RecoveryReport, LogError> {
        let mut report = RecoveryReport::default();
        let snapshot = self.newest_snapshot(Offset(i64::MAX), &mut report)?;
        if let Some((at, _)) = &snapshot {
            self.finish_deletions(*at)?;
        }
        let connected = self.is_connected(open);
        if connected {
            self.log_start_offset = self.log_start_offset.max(self.segments_start());
        }
        let trusted = match open.clean {
            true => Offset(i64::MAX),
            false => {
                let promised = snapshot
                    .as_ref()
                    .map_or_else(|| self.segments_start(), |(at, _)| *at);
                open.recovery_point.min(promised)
            }
        };
        let epochs_known = self.load_epochs(trusted)?;
        report.epochs_rebuilt = !epochs_known && !self.segments.is_empty();
        let mut walk = self.plan_walk(trusted, snapshot, report)?;
        walk.connected = connected;
        walk.promised = open.recovery_point;
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
    ) -> Result<Option<(Offset, Producers)>, LogError> {
        while let Some(&offset) = self.snapshots.range(..=at_most).next_back() {
            let path = path(&self.dir, offset, SegmentFile::ProducerSnapshot);
            let bytes = match read_file(&*self.disk, &path, SNAPSHOT_BYTES_MAX) {
                Ok(bytes) => Some(bytes),
                // It may be sound.
                Err(error) if is_out_of_descriptors(&error) => {
                    return Err(LogError::io(path, error));
                }
                Err(_) => None,
            };
            if let Some(producers) = bytes.and_then(|bytes| snapshot::decode(&bytes, offset)) {
                return Ok(Some((offset, producers)));
            }
            // If it cannot be removed it is not sound next time either.
            let _ = remove_if_there(&*self.disk, &path);
            self.snapshots.remove(&offset);
            report.discarded_snapshots += 1;
        }
        Ok(None)
    }

    /// Epochs that start below the trusted offset; false if the file does not say.
    fn load_epochs(&mut self, trusted: Offset) -> Result<bool, LogError> {
        let path = format!("{}/{LEADER_EPOCHS}", self.dir);
        let bytes = match read_file(&*self.disk, &path, EPOCH_FILE_BYTES_MAX) {
            // It may be sound.
            Err(error) if is_out_of_descriptors(&error) => return Err(LogError::io(path, error)),
            bytes => bytes.ok(),
        };
        let known = bytes.and_then(|bytes| parse_leader_epochs(&bytes).ok());
        match known.and_then(EpochHistory::from_entries) {
            Some(mut epochs) => {
                self.epochs_version = u64::from(epochs.truncate_from_end(trusted));
                self.epochs = epochs;
                Ok(true)
            }
            None => {
                self.epochs_version = 1;
                Ok(false)
            }
        }
    }

    /// Decides from where on which state is rebuilt.
    fn plan_walk(
        &mut self,
        trusted: Offset,
        newest: Option<(Offset, Producers)>,
        mut report: RecoveryReport,
    ) -> Result<Walk, LogError> {
        let mut walk = Walk {
            trusted,
            promised: trusted,
            producers_from: self.segments_start(),
            resume_base: self.segments_start(),
            resume_position: 0,
            connected: true,
            buffer: vec![
                0;
                if trusted.0 == i64::MAX {
                    CLEAN_WALK_BYTES
                } else {
                    WALK_BYTES
                }
            ],
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
        // Read already, most of the time.
        let newest = match newest {
            Some((offset, producers)) if offset <= at_most => Some((offset, producers)),
            _ => self.newest_snapshot(at_most, &mut report)?,
        };
        if let Some((offset, producers)) = newest {
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
            if base > walk.producers_from && !self.snapshots.contains(&base) {
                let state = snapshot::encode(&self.producers);
                self.pending_snapshots.push((base, state));
            }
            self.segments.push(segment);
            let next = later.front().map(|next| next.base_offset);
            match self.walk_segment(walk, next)? {
                Ended::AtEnd => {}
                Ended::AtZeros { position } => {
                    self.cut_last(position)?;
                }
                Ended::Cut { position, fault } => {
                    let path = path(&self.dir, base, SegmentFile::Log);
                    return self.cut(walk, path, position, fault, later);
                }
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
            // Zeros or damage, behind what an index entry vouches for: the walk meets it again.
            Err(ScanError::Bad { position, .. })
                if base == walk.resume_base && position > walk.resume_position =>
            {
                position
            }
            Err(ScanError::Bad { .. }) => 0,
            Err(error) => return Err(self.fault(segment, error)),
        };
        Ok(match base == walk.resume_base {
            true => producers_at.min(walk.resume_position),
            false => producers_at,
        })
    }

    /// `next`: where the segment after it starts, if there is one.
    fn walk_segment(&mut self, walk: &mut Walk, next: Option<Offset>) -> Result<Ended, LogError> {
        let segment = &self.segments[self.segments.len() - 1];
        let file = Arc::clone(segment.file(&*self.disk, &self.dir)?);
        let (path, size) = (segment.path(&self.dir), u64::from(segment.size_bytes));
        let clean = walk.trusted.0 == i64::MAX;
        if !clean && next.is_none_or(|next| next > walk.trusted) {
            file.forget_clean()
                .map_err(|error| LogError::io(&*path, error))?;
        }
        let start = self.walk_start(walk)?;
        let mut buffer = std::mem::take(&mut walk.buffer);
        let mut scan = segment.scan(&*file, start, &mut buffer);
        scan.expected = self.log_end_offset;
        let ended = self.walk_batches(&mut scan, walk, (&path, size), next);
        walk.buffer = buffer;
        ended.map_err(|error| LogError::io(path, error))
    }

    fn walk_batches(
        &mut self,
        scan: &mut Scan<'_>,
        walk: &mut Walk,
        (path, size): (&str, u64),
        next: Option<Offset>,
    ) -> io::Result<Ended> {
        let is_last = next.is_none();
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
            let whole = match next {
                Some(next) => self.log_end_offset == next,
                None => self.log_end_offset >= walk.promised,
            };
            if whole && scan.is_zero_from(position)? {
                return Ok(Ended::AtZeros { position });
            }
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
            self.note_kept(scan, (path, position, until_position), fault)?;
            walk.report.damage.push(Damage {
                path: path.to_owned(),
                position,
                fault,
                kind,
            });
            scan.position = until_position;
        }
    }

    /// Readers are to be served around what is kept.
    fn note_kept(
        &mut self,
        scan: &mut Scan<'_>,
        (path, position, until): (&str, u64, u64),
        fault: Fault,
    ) -> io::Result<()> {
        let Some(base_offset) = self.segments.last().map(|segment| segment.base_offset) else {
            return Ok(());
        };
        // Without a batch behind it nobody knows which offsets are lost: reads will say so.
        if let Ok(next) = scan.parse(until)? {
            self.holes.push(DamagedPlace {
                path: path.to_owned(),
                base_offset,
                bytes: (position, until),
                offsets: (self.log_end_offset, next.header.base_offset),
                fault,
            });
        }
        Ok(())
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

    fn finish_recovery(&mut self, open: &OpenLog, walk: Walk) -> Result<RecoveryReport, LogError> {
        let mut report = walk.report;
        self.damaged = !report.damage.is_empty();
        self.size_bytes = self.segments.iter().map(|s| u64::from(s.size_bytes)).sum();
        self.log_end_offset = self.log_end_offset.max(self.segments_start());
        if self.log_end_offset < self.log_start_offset {
            self.restart_at_log_start()?;
        }
        self.remove_snapshots_above(self.log_end_offset)?;
        if walk.producers_from > self.log_end_offset {
            self.producers = self.producers_at(self.log_end_offset)?;
        }
        let changed = self.epochs.truncate_from_end(self.log_end_offset)
            | self.epochs.truncate_from_start(self.log_start_offset);
        self.epochs_version += u64::from(changed);
        if !open.clean {
            // Names may be visible without being durable.
            self.directory.changes = 1;
            self.directory.new = !open.synced;
        }
        let removed = self.remove_unsound_indexes(walk.resume_base)?;
        let changed = removed || report.checked_batches > 0 || report.truncated_bytes > 0;
        // Names that were removed here wait for the next flush, as no checkpoint precedes it.
        if changed && (!open.synced || report.truncated_bytes > 0) {
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
        Ok(report)
    }

    /// Nothing is left above the log start: what lies below was deleted, what lay above is lost.
    /// The producer state of that very offset may still be known.
    fn restart_at_log_start(&mut self) -> Result<(), LogError> {
        let start = self.log_start_offset;
        let state = self.newest_snapshot(start, &mut RecoveryReport::default())?;
        self.truncate_fully_and_start_at(start)?;
        if let Some((_, producers)) = state.filter(|(at, _)| *at == start) {
            self.pending_snapshots
                .push((start, snapshot::encode(&producers)));
            self.producers = producers;
        }
        Ok(())
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
}
