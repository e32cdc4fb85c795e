//! Opening a log: what is in its directory, and what of it counts.
//!
//! Names that are not ours or Kafka's are left alone. What a crash left half-made (temporary
//! files, indexes without a segment, segments below the log start) is removed. The rest is
//! `recover.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::types::Offset;

use super::checkpoint::remove_if_there;
use super::error::LogError;
use super::report::RecoveryReport;
use super::retain::DELETED_SUFFIX;
use super::segment::{INDEX_FILES, Segment};
use super::{Log, LogConfig, compact, metadata};
use crate::disk::Disk;
use crate::layout::SegmentFile;

/// Suffixes of files that an interrupted operation leaves behind.
const LEFTOVER_SUFFIXES: [&str; 3] = [".tmp", DELETED_SUFFIX, ".cleaned"];

/// What the checkpoint files of the log directory say about one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLog {
    /// Everything below was durable when this was written.
    pub recovery_point: Offset,
    pub log_start_offset: Offset,
    /// The log was closed, and nothing was written since.
    pub clean: bool,
    /// Everything in the log directory was synced ([`Disk::sync_all`]) before this open: what is
    /// read from the disk need not be synced once more.
    pub synced: bool,
}

impl Log {
    /// Opens what is in a directory, or an empty log if there is none (its directory then comes
    /// with the first append, without a topic id: prefer [`Log::create`] for new partitions).
    ///
    /// After a clean shutdown the headers behind the last index entry are read. Otherwise every
    /// batch above the recovery point is checked, the log cut at the first bad byte, and indexes,
    /// epochs and producer state brought up to the new end, which is synced.
    /// `now_ms` is when the active segment starts to age if its records carry no time.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        config: LogConfig,
        open: OpenLog,
        now_ms: i64,
    ) -> Result<(Log, RecoveryReport), LogError> {
        let start = Offset(open.log_start_offset.0.max(0));
        let mut log = Log::empty(disk, dir, config, start);
        let exists = log
            .disk
            .exists(dir)
            .map_err(|error| LogError::io(dir, error))?;
        if !exists {
            let report = log.report_of_nothing(&open);
            return Ok((log, report));
        }
        log.directory.exists = true;
        log.topic_id = metadata::read(&*log.disk, dir);
        log.read_directory(now_ms)?;
        let report = log.recover(&open)?;
        log.check_invariants();
        // Most logs of a start are not used soon.
        log.release_caches();
        Ok((log, report))
    }

    fn report_of_nothing(&self, open: &OpenLog) -> RecoveryReport {
        let log_end_offset = self.log_end_offset;
        let lost = open.recovery_point > log_end_offset;
        RecoveryReport {
            trusted_to: log_end_offset,
            log_end_offset,
            lost_below_recovery_point: lost.then_some(open.recovery_point),
            ..RecoveryReport::default()
        }
    }

    fn read_directory(&mut self, now_ms: i64) -> Result<(), LogError> {
        let entries = self
            .disk
            .list(&self.dir)
            .map_err(|error| LogError::io(&*self.dir, error))?;
        let entries = match compact::complete_swaps(&*self.disk, &self.dir, &entries)? {
            false => entries,
            true => {
                let entries = self.disk.list(&self.dir);
                entries.map_err(|error| LogError::io(&*self.dir, error))?
            }
        };
        let mut bases = BTreeSet::new();
        let files = || entries.iter().filter(|entry| !entry.is_dir);
        for entry in files() {
            match SegmentFile::parse(&entry.name) {
                Some((base_offset, SegmentFile::Log)) => {
                    let size_bytes = self.segment_size(&entry.name, entry.len_bytes)?;
                    bases.insert(base_offset);
                    self.segments
                        .push(Segment::existing(base_offset, size_bytes, now_ms));
                }
                Some((offset, SegmentFile::ProducerSnapshot)) => {
                    self.snapshots.insert(offset);
                }
                _ => {}
            }
        }
        self.segments.sort_by_key(|segment| segment.base_offset);
        for entry in files() {
            let orphan = SegmentFile::parse(&entry.name)
                .is_some_and(|(base, kind)| INDEX_FILES.contains(&kind) && !bases.contains(&base));
            let leftover = LEFTOVER_SUFFIXES
                .iter()
                .any(|suffix| entry.name.ends_with(suffix));
            if leftover || orphan {
                let path = format!("{}/{}", self.dir, entry.name);
                remove_if_there(&*self.disk, &path).map_err(|error| LogError::io(path, error))?;
            }
        }
        Ok(())
    }

    /// Segments wholly below the log start were deleted, or would be next; a crash may have brought
    /// some of them back, with gaps between them. Those above the newest producer snapshot stay:
    /// the producer state is still to be rebuilt from them.
    pub(super) fn finish_deletions(&mut self, snapshot: Offset) -> Result<(), LogError> {
        let deletable = self.log_start_offset.min(snapshot);
        while self.segments.len() > 1 && self.segments[1].base_offset <= deletable {
            self.remove_segment_files(self.segments[0].base_offset)?;
            self.segments.remove(0);
        }
        Ok(())
    }

    fn segment_size(&self, name: &str, size_bytes: u64) -> Result<u32, LogError> {
        match size_bytes <= i32::MAX as u64 {
            true => Ok(size_bytes as u32),
            false => {
                let path = format!("{}/{name}", self.dir);
                Err(LogError::SegmentTooLarge { path, size_bytes })
            }
        }
    }
}
