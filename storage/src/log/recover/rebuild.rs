//! State that is derived from batch headers alone, found again when its own file is no help: the
//! producers where a log is cut, the aborted transactions of a segment whose index is lost.

use std::ops::Range;

use ottla_protocol::types::Offset;

use crate::disk::Disk;
use crate::log::Log;
use crate::log::control::EndTransaction;
use crate::log::error::LogError;
use crate::log::index::AbortedTransaction;
use crate::log::producers::{Producers, snapshot};
use crate::log::report::RecoveryReport;
use crate::log::scan::{Found, ScanError, WALK_BYTES};
use crate::log::segment::Segment;

impl Log {
    /// The producer state where a batch ends: the newest sound snapshot and the batches since.
    pub(in crate::log) fn producers_at(&mut self, end: Offset) -> Result<Producers, LogError> {
        let mut report = RecoveryReport::default();
        let written = self.newest_snapshot(end, &mut report)?;
        let newer = |at: &Offset| written.as_ref().is_none_or(|(offset, _)| at > offset);
        let pending = self
            .pending_snapshots
            .iter()
            .filter(|(at, _)| *at <= end && newer(at))
            .max_by_key(|(at, _)| *at)
            .and_then(|(at, bytes)| Some((*at, snapshot::decode(bytes, *at)?)));
        let (from, mut producers) = pending
            .or(written)
            .unwrap_or_else(|| (self.segments_start(), Producers::default()));
        let count_max = self.config.producer_count_max;
        self.walk_headers(
            self.segment_of(from)..self.segments.len().min(self.segment_of(end) + 1),
            |found, marker| {
                if (from..end).contains(&found.header.base_offset) {
                    producers.replay(&found.header, marker.as_ref(), count_max);
                }
            },
        )?;
        Ok(producers)
    }

    /// The aborted transactions of a segment whose file of them is lost.
    pub(in crate::log) fn aborted_from_log(
        &self,
        at: usize,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let segments: Vec<_> = self.segments[..=at].iter().collect();
        let count_max = self.config.producer_count_max;
        aborted_in_last(&*self.disk, &self.dir, &segments, count_max)
    }

    fn walk_headers(
        &self,
        segments: Range<usize>,
        visit: impl FnMut(&Found, Option<EndTransaction>),
    ) -> Result<(), LogError> {
        let segments = self.segments[segments].iter();
        walk_headers(&*self.disk, &self.dir, segments, visit)
    }
}

/// The aborted transactions of the last of these segments, which are all there are up to it.
pub(in crate::log) fn aborted_in_last(
    disk: &dyn Disk,
    dir: &str,
    segments: &[&Segment],
    count_max: usize,
) -> Result<Vec<AbortedTransaction>, LogError> {
    let base = segments
        .last()
        .map_or(Offset::ZERO, |last| last.base_offset);
    let mut producers = Producers::default();
    let mut aborted = Vec::new();
    walk_headers(disk, dir, segments.iter().copied(), |found, marker| {
        let ended = producers.replay(&found.header, marker.as_ref(), count_max);
        aborted.extend(ended.filter(|entry| entry.last_offset >= base));
    })?;
    Ok(aborted)
}

/// Every batch of some segments by its header, stepping over damage.
fn walk_headers<'a>(
    disk: &dyn Disk,
    dir: &str,
    segments: impl Iterator<Item = &'a Segment>,
    mut visit: impl FnMut(&Found, Option<EndTransaction>),
) -> Result<(), LogError> {
    let mut buffer = vec![0; WALK_BYTES];
    for segment in segments {
        let io = |error| LogError::io(segment.path(dir), error);
        let file = segment.file(disk, dir)?;
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
