//! The walk through one partition: every batch once, in order, with its CRC.
//!
//! Damage never ends it: the next batch whose CRC matches is searched for, and what lies between is
//! reported. What follows from headers (offsets, epochs, producers, aborted transactions) is
//! collected on the way and held against the derived files.

use std::collections::BTreeSet;

use ottla_protocol::types::Offset;

use super::compare::{EpochRun, epochs_problem, snapshot_problem};
use super::indexes::Indexes;
use super::{Expected, Finding, OpenTransaction, PartitionCheck, Severity, Subject};
use crate::checkpoint::{EpochEntry, LEADER_EPOCHS, parse_leader_epochs};
use crate::disk::{Disk, read_file};
use crate::layout::{self, SegmentFile};
use crate::log::epochs::EpochHistory;
use crate::log::error::{Fault, LogError};
use crate::log::index::{AbortedTransaction, SegmentIndex};
use crate::log::producers::{Producers, snapshot};
use crate::log::scan::{Found, Scan, ScanError, WALK_BYTES};
use crate::log::segment::{Segment, path};

const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
const EPOCH_FILE_BYTES_MAX: u64 = 16 << 20;
/// Offline nobody waits for a bounded memory of producers.
const PRODUCERS_MAX: usize = usize::MAX;
const PROGRESS_STEP_BYTES: u64 = 4 << 20;

/// What a derived file should say.
pub(crate) enum Derived<'a> {
    /// All indexes of the segment with this base.
    Indexes(Offset, &'a SegmentIndex),
    /// The producers at this offset.
    Producers(Offset, &'a Producers),
    Epochs(&'a [EpochEntry]),
}

pub(crate) type DerivedSink<'a> = dyn FnMut(Derived<'_>) -> Result<(), LogError> + 'a;

pub(crate) struct Walk<'a> {
    disk: &'a dyn Disk,
    dir: &'a str,
    expected: Expected,
    progress: &'a mut dyn FnMut(u64),
    /// Takes what the derived files should say.
    derived: Option<(&'a mut DerivedSink<'a>, u32)>,
    told: u64,
    segments: Vec<(Offset, u64)>,
    snapshots: BTreeSet<Offset>,
    /// The offset after the last batch.
    end: Offset,
    epochs: Vec<EpochRun>,
    producers: Producers,
    /// The producer state is known from its beginning.
    whole: bool,
    /// Offsets are missing, as compaction leaves them: states of the past cannot be told any more.
    gaps: bool,
    /// Where damage was found, and how many sound batches had been read by then.
    damaged: Vec<(usize, u64)>,
    check: PartitionCheck,
}

/// What one segment holds.
#[derive(Default)]
struct FoundHere {
    aborted: Vec<AbortedTransaction>,
    index: Option<SegmentIndex>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        disk: &'a dyn Disk,
        dir: &'a str,
        expected: Expected,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Walk<'a>, LogError> {
        let entries = disk.list(dir).map_err(|error| LogError::io(dir, error))?;
        let (mut segments, mut snapshots) = (Vec::new(), BTreeSet::new());
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            match SegmentFile::parse(&entry.name) {
                Some((base, SegmentFile::Log)) => segments.push((base, entry.len_bytes)),
                Some((offset, SegmentFile::ProducerSnapshot)) => {
                    snapshots.insert(offset);
                }
                _ => {}
            }
        }
        segments.sort_unstable();
        let start = segments
            .first()
            .map_or(expected.log_start_offset, |first| first.0);
        let mut walk = Walk {
            disk,
            dir,
            expected,
            progress,
            derived: None,
            told: 0,
            segments,
            snapshots,
            end: start,
            epochs: Vec::new(),
            producers: Producers::default(),
            whole: start == Offset::ZERO,
            gaps: expected.compacted_to > Offset::ZERO,
            damaged: Vec::new(),
            check: PartitionCheck::default(),
        };
        walk.note_others(&entries);
        walk.begin_producers(start);
        Ok(walk)
    }

    fn note_others(&mut self, entries: &[crate::disk::DirEntry]) {
        for entry in entries {
            let kept = entry.name.ends_with(".salvaged");
            let swap = entry.name.ends_with(".swap") || entry.name.ends_with(".cleaned");
            let what = match (kept, swap) {
                (true, _) => "records that an earlier recovery cut off are kept here",
                (_, true) => "a compaction was interrupted; the next start completes or undoes it",
                _ => continue,
            };
            let path = format!("{}/{}", self.dir, entry.name);
            self.find(path, Severity::Note, Subject::Records, what.to_owned());
        }
    }

    /// The producer state of the first offset, from the snapshot of that offset.
    fn begin_producers(&mut self, start: Offset) {
        let Some(bytes) = self.snapshot_bytes(start) else {
            return;
        };
        if let Some(producers) = snapshot::decode(&bytes, start) {
            (self.producers, self.whole) = (producers, true);
        }
    }

    fn snapshot_bytes(&self, offset: Offset) -> Option<Vec<u8>> {
        let path = path(self.dir, offset, SegmentFile::ProducerSnapshot);
        let there = self.snapshots.contains(&offset);
        there.then(|| read_file(self.disk, &path, SNAPSHOT_BYTES_MAX).ok())?
    }

    /// Has `sink` told what the derived files should say, with index entries so far apart.
    pub(crate) fn derive(mut self, sink: &'a mut DerivedSink<'a>, interval_bytes: u32) -> Walk<'a> {
        self.derived = Some((sink, interval_bytes));
        self
    }

    pub(crate) fn run(mut self) -> Result<PartitionCheck, LogError> {
        let segments = std::mem::take(&mut self.segments);
        let mut buffer = vec![0; WALK_BYTES];
        for (at, (base, size_bytes)) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map(|next| next.0);
            self.tell_producers(*base)?;
            self.segment(*base, *size_bytes, next, &mut buffer)?;
        }
        self.tell_producers(self.end)?;
        self.tell_epochs()?;
        self.check.segments = segments.len() as u64;
        self.check.bases.clone_from(&segments);
        self.compare_snapshots(Offset(i64::MAX));
        self.compare_epochs();
        self.check_identity();
        self.finish(segments.first().map(|first| first.0))
    }

    fn tell_producers(&mut self, offset: Offset) -> Result<(), LogError> {
        match &mut self.derived {
            Some((sink, _)) => sink(Derived::Producers(offset, &self.producers)),
            None => Ok(()),
        }
    }

    /// Where each epoch starts, by the batches.
    fn history(&self) -> EpochHistory {
        let mut history = EpochHistory::default();
        for run in &self.epochs {
            history.assign(run.epoch, run.first);
        }
        history.truncate_from_start(self.expected.log_start_offset);
        history
    }

    fn tell_epochs(&mut self) -> Result<(), LogError> {
        let history = self.history();
        match &mut self.derived {
            Some((sink, _)) => sink(Derived::Epochs(history.entries())),
            None => Ok(()),
        }
    }

    fn finish(mut self, first: Option<Offset>) -> Result<PartitionCheck, LogError> {
        let total = self.check.batches;
        for (finding, before) in std::mem::take(&mut self.damaged) {
            self.check.findings[finding].readable_after = Some(total - before);
        }
        let start = first.unwrap_or(self.expected.log_start_offset);
        let missing = self.expected.recovery_point > self.end.max(self.expected.log_start_offset);
        let told = |finding: &Finding| {
            finding.subject == Subject::Records && finding.offsets.is_some_and(|o| o.1.is_none())
        };
        if missing && !self.check.findings.iter().any(told) {
            let what = format!(
                "the log ends at {}, and was durable up to {} once",
                self.end, self.expected.recovery_point
            );
            let lost = (self.end, Some(self.expected.recovery_point));
            self.find(
                self.dir.to_owned(),
                Severity::Damage,
                Subject::Records,
                what,
            );
            self.last().offsets = Some(lost);
        }
        self.check.start_offset = start.max(self.expected.log_start_offset);
        self.check.end_offset = self.end.max(self.check.start_offset);
        self.check.epochs = self.history().entries().to_vec();
        self.check.latest_epoch = self.epochs.last().map(|run| run.epoch);
        self.check.producers = self.producers.len();
        self.check.open_transactions = self
            .producers
            .iter()
            .filter_map(|(producer_id, entry)| {
                let first_offset = entry.current_transaction_first_offset?;
                Some(OpenTransaction {
                    producer_id,
                    first_offset,
                })
            })
            .collect();
        Ok(self.check)
    }

    fn segment(
        &mut self,
        base: Offset,
        size_bytes: u64,
        next: Option<Offset>,
        buffer: &mut [u8],
    ) -> Result<(), LogError> {
        let log = path(self.dir, base, SegmentFile::Log);
        self.check.bytes += size_bytes;
        let Ok(size) = u32::try_from(size_bytes).map(|size| size.min(i32::MAX as u32)) else {
            let what = "the file is larger than a segment can be".to_owned();
            self.find(log, Severity::Damage, Subject::Records, what);
            return Ok(());
        };
        if base < self.end {
            let what = format!(
                "it starts at {base}, below {} where the one before ends",
                self.end
            );
            self.find(log.clone(), Severity::Damage, Subject::Records, what);
        } else {
            self.note_gap(&log, 0, base);
        }
        self.end = base;
        let file = self
            .disk
            .open(&log)
            .map_err(|error| LogError::io(&*log, error))?;
        let segment = Segment::existing(base, size, 0);
        let mut indexes = Indexes::load(self.disk, self.dir, base, size);
        let mut found = FoundHere {
            index: self.derived.as_ref().map(|_| SegmentIndex::empty()),
            ..FoundHere::default()
        };
        let mut scan = segment.scan(&*file, 0, buffer);
        let walked = self.batches(
            &mut scan,
            &log,
            (base, size, next),
            &mut indexes,
            &mut found,
        );
        walked.map_err(|error| LogError::io(&*log, error))?;
        (self.progress)(u64::from(size) - self.told);
        self.told = 0;
        self.compare_indexes(base, next, indexes, &found.aborted);
        if let (Some(mut index), Some((sink, _))) = (found.index, &mut self.derived) {
            index.close_times();
            index.aborted = found.aborted;
            sink(Derived::Indexes(base, &index))?;
        }
        Ok(())
    }

    fn batches(
        &mut self,
        scan: &mut Scan<'_>,
        log: &str,
        (base, size, next): (Offset, u32, Option<Offset>),
        indexes: &mut Indexes,
        here: &mut FoundHere,
    ) -> std::io::Result<()> {
        loop {
            let (position, fault) = match scan.next() {
                Ok(None) => return Ok(()),
                Ok(Some(found)) => match self.fault_of(scan, &found, next)? {
                    None => {
                        self.note_gap(log, found.position, found.header.base_offset);
                        self.take(scan, &found, indexes, here)?;
                        self.index(base, &found, here);
                        continue;
                    }
                    Some(fault) => (found.position, fault),
                },
                Err(ScanError::Bad { position, fault }) => (position, fault),
                Err(ScanError::Io(error)) => return Err(error),
            };
            let whole = next.map_or(self.end >= self.expected.recovery_point, |next| {
                self.end == next
            });
            if whole && scan.is_zero_from(position)? {
                self.written_ahead(log, (position, u64::from(size)));
                return Ok(());
            }
            scan.expected = self.end;
            let valid = scan.find_valid(position + 1)?;
            let until = valid.map_or_else(|| u64::from(size), |found| found.position);
            let until_offset = valid.map(|found| found.header.base_offset).or(next);
            self.damage(
                log,
                (position, until),
                fault,
                (until_offset, next.is_none()),
            );
            scan.position = until;
            let resume = until_offset.unwrap_or(self.end);
            indexes.skip(
                until,
                valid.map_or(Offset(i64::MAX), |found| found.header.base_offset),
            );
            self.end = resume.max(self.end);
            scan.expected = self.end;
        }
    }

    /// What is wrong with a batch whose header is plausible.
    fn fault_of(
        &self,
        scan: &mut Scan<'_>,
        found: &Found,
        next: Option<Offset>,
    ) -> std::io::Result<Option<Fault>> {
        if next.is_some_and(|next| found.header.last_offset() >= next) {
            return Ok(Some(Fault::Offsets));
        }
        if !scan.crc_is_valid(found)? {
            return Ok(Some(Fault::Crc));
        }
        let latest = self.epochs.last().map(|run| run.epoch);
        let back = latest.is_some_and(|latest| found.header.leader_epoch < latest);
        Ok(back.then_some(Fault::Epoch))
    }

    fn take(
        &mut self,
        scan: &mut Scan<'_>,
        found: &Found,
        indexes: &mut Indexes,
        here: &mut FoundHere,
    ) -> std::io::Result<()> {
        let header = &found.header;
        indexes.observe(found.position, header);
        self.compare_snapshots(header.base_offset);
        let marker = scan.marker(found)?;
        here.aborted.extend(
            self.producers
                .replay(header, marker.as_ref(), PRODUCERS_MAX),
        );
        self.producers.forget_replicated(Offset(i64::MAX));
        let last = header.last_offset();
        match self.epochs.last_mut() {
            Some(run) if run.epoch == header.leader_epoch => run.last = last,
            _ => self.epochs.push(EpochRun {
                epoch: header.leader_epoch,
                first: header.base_offset,
                last,
            }),
        }
        self.check.batches += 1;
        self.check.records += u64::from(header.record_count.unsigned_abs());
        self.end = last.next();
        if found.end() - self.told > PROGRESS_STEP_BYTES {
            (self.progress)(found.end() - self.told);
            self.told = found.end();
        }
        Ok(())
    }

    fn index(&self, base: Offset, found: &Found, here: &mut FoundHere) {
        if let (Some(index), Some((_, interval_bytes))) = (&mut here.index, &self.derived) {
            let last = (found.header.last_offset().0 - base.0) as u32;
            let (position, time) = (found.position as u32, found.header.max_timestamp);
            index.observe(position, last, time, *interval_bytes);
        }
    }

    fn damage(
        &mut self,
        log: &str,
        bytes: (u64, u64),
        fault: Fault,
        (until, is_last): (Option<Offset>, bool),
    ) {
        let nothing_after = until.is_none() && is_last;
        let torn = nothing_after && self.end >= self.expected.recovery_point;
        let (severity, what) = match torn {
            true => (
                Severity::TornTail,
                format!("an unfinished write at the end ({fault})"),
            ),
            false => (Severity::Damage, fault.to_string()),
        };
        self.find(log.to_owned(), severity, Subject::Records, what);
        let end = self.end;
        let last = self.last();
        last.bytes = Some(bytes);
        last.offsets = Some((end, until));
        if severity == Severity::Damage {
            let at = self.check.findings.len() - 1;
            self.damaged.push((at, self.check.batches));
        }
    }

    /// Space that a broker, or Kafka with `preallocate`, had made ready for records.
    fn written_ahead(&mut self, log: &str, bytes: (u64, u64)) {
        let what = "zeros behind the records, written ahead; the next start cuts them off";
        self.find(
            log.to_owned(),
            Severity::Note,
            Subject::Records,
            what.to_owned(),
        );
        self.last().bytes = Some(bytes);
        self.check.bytes -= bytes.1 - bytes.0;
    }

    /// Offsets that no batch has are what compaction leaves; elsewhere they are lost.
    fn note_gap(&mut self, log: &str, position: u64, base: Offset) {
        if base <= self.end {
            return;
        }
        let first = !std::mem::replace(&mut self.gaps, true);
        let compacted = base <= self.expected.compacted_to;
        if compacted || self.end < self.expected.log_start_offset {
            return;
        }
        let (severity, what) = match position {
            0 => (Severity::Damage, "offsets are missing before this segment"),
            _ if first => (
                Severity::Note,
                "offsets are missing here: was the log compacted?",
            ),
            _ => return,
        };
        let lost = (self.end, Some(base));
        self.find(log.to_owned(), severity, Subject::Records, what.to_owned());
        let last = self.last();
        last.bytes = Some((position, position));
        last.offsets = Some(lost);
    }

    fn compare_indexes(
        &mut self,
        base: Offset,
        next: Option<Offset>,
        indexes: Indexes,
        aborted: &[AbortedTransaction],
    ) {
        let (inexact, end) = (indexes.inexact, next.unwrap_or(Offset(i64::MAX)));
        for wrong in indexes.finish(aborted, end) {
            // The active segment's indexes are written by checkpoints, so they may not be there.
            if wrong.missing && next.is_none() {
                continue;
            }
            let subject = match wrong.kind {
                SegmentFile::TimeIndex => Subject::TimeIndex,
                SegmentFile::TransactionIndex => Subject::TransactionIndex,
                _ => Subject::OffsetIndex,
            };
            let path = path(self.dir, base, wrong.kind);
            self.find(path, Severity::Derived, subject, wrong.what.to_owned());
            self.last().bytes = wrong.bytes;
        }
        if inexact {
            let path = path(self.dir, base, SegmentFile::OffsetIndex);
            let what = "entries of an older Kafka: correct, and slower to look up".to_owned();
            self.find(path, Severity::Note, Subject::OffsetIndex, what);
        }
    }

    /// The snapshots of offsets that the walk has reached.
    fn compare_snapshots(&mut self, reached: Offset) {
        while let Some(offset) = self.snapshots.first().copied().filter(|at| *at <= reached) {
            let bytes = self.snapshot_bytes(offset);
            self.snapshots.remove(&offset);
            let path = path(self.dir, offset, SegmentFile::ProducerSnapshot);
            // In a damaged log nobody can say what the state was.
            let comparable = self.damaged.is_empty() && !self.gaps;
            let problem = match bytes {
                None => Some("the file cannot be read"),
                Some(_) if reached.0 == i64::MAX && offset > self.end => {
                    Some("it speaks of an offset behind the log end")
                }
                Some(bytes) if comparable => {
                    snapshot_problem(&bytes, offset, &self.producers, self.whole)
                }
                Some(bytes) => snapshot::decode(&bytes, offset)
                    .is_none()
                    .then_some("the file is damaged"),
            };
            if let Some(problem) = problem {
                let subject = Subject::ProducerSnapshot;
                self.find(path, Severity::Derived, subject, problem.to_owned());
            }
        }
    }

    fn compare_epochs(&mut self) {
        let path = format!("{}/{LEADER_EPOCHS}", self.dir);
        let bytes = read_file(self.disk, &path, EPOCH_FILE_BYTES_MAX);
        let durable = self.expected.recovery_point;
        let start = self.expected.log_start_offset;
        let problem = match bytes {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let needed = self
                    .epochs
                    .iter()
                    .any(|run| run.epoch.0 >= 0 && run.first < durable);
                needed.then(|| "the file is missing".to_owned())
            }
            Err(error) => Some(error.to_string()),
            Ok(bytes) => match parse_leader_epochs(&bytes) {
                Err((line, problem)) => Some(format!("line {line}: {problem}")),
                Ok(entries) => epochs_problem(&entries, &self.epochs, (start, durable, self.end)),
            },
        };
        if let Some(problem) = problem {
            self.find(path, Severity::Derived, Subject::LeaderEpochs, problem);
        }
    }

    fn check_identity(&mut self) {
        let path = format!("{}/{}", self.dir, layout::PARTITION_METADATA);
        let what = match layout::read_partition_metadata(self.disk, self.dir) {
            Ok(Some(_)) => return,
            Ok(None) => "the file is missing; the name decides which topic this is".to_owned(),
            Err(error) => error.to_string(),
        };
        self.find(path, Severity::Note, Subject::Metadata, what);
    }

    fn find(&mut self, path: String, severity: Severity, subject: Subject, what: String) {
        self.check.findings.push(Finding {
            path,
            severity,
            subject,
            bytes: None,
            offsets: None,
            readable_after: None,
            what,
        });
    }

    /// The finding that was just made.
    fn last(&mut self) -> &mut Finding {
        let at = self.check.findings.len() - 1;
        &mut self.check.findings[at]
    }
}
