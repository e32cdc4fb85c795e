//! One reading of the partitions of a fetch, and the readings again after something changed. It
//! keeps what it found and re-reads only partitions whose change counter moved. It stops at the
//! first read that would have to wait for the disk, and goes on there: what one partition gives
//! bounds what the next may.

use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::leader_hint::CurrentLeader;

use crate::broker::Logs;
use crate::config::Compression;
use crate::errors::ToErrorCode;
use crate::fetch_session::{Plan, Said};
use crate::handlers::hosted;
use crate::partition::{Isolation, Partition, PartitionError, PartitionRead, ReadFrom, Reading};
use ottla_protocol::types::Offset;

use super::warming::{ColdTarget, Offer, Outcome};

/// What was found at one target.
pub(super) enum Found {
    NotRead,
    Read(PartitionRead),
    Failed(ErrorCode, Option<CurrentLeader>),
}

/// A fetch's targets and what was found at each.
pub(super) struct Pass {
    pub(super) plan: Plan,
    pub(super) found: Vec<Found>,
    /// The change counter of each hosted partition from before its reading.
    seen: Vec<u64>,
    max_bytes: u32,
    isolation: Isolation,
    refuse_zstd: bool,
    size_bytes: u64,
    /// Something must be told at once, whatever the number of bytes.
    urgent: bool,
    /// What the read that had to wait has found.
    offer: Option<Offer>,
}

impl Pass {
    pub(super) fn new(plan: Plan, max_bytes: u32, isolation: Isolation, refuse_zstd: bool) -> Pass {
        let found = plan.targets.iter().map(|_| Found::NotRead).collect();
        let seen = vec![0; plan.targets.len()];
        let (size_bytes, urgent) = (0, false);
        Pass {
            plan,
            found,
            seen,
            max_bytes,
            isolation,
            refuse_zstd,
            size_bytes,
            urgent,
            offer: None,
        }
    }

    /// Reads every target that is not read yet, up to one that has to wait for the disk; the first
    /// one with data gives at least one batch.
    pub(super) fn read_unread(&mut self, logs: &Logs<'_>) -> Option<ColdTarget> {
        for index in 0..self.plan.targets.len() {
            if matches!(self.found[index], Found::NotRead)
                && let Err(cold) = self.read(index, logs)
            {
                return Some(*cold);
            }
        }
        None
    }

    /// What a read that had to wait has found; for the next reading.
    pub(super) fn offer(&mut self, offer: Offer) {
        self.offer = Some(offer);
    }

    /// Tells anew where readers stand at the targets whose partitions changed while another one
    /// waited for the disk: an answer must not say less than an earlier one to somebody else.
    /// True when some of them cannot say, and are to be read again.
    pub(super) fn refresh_marks(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.plan.targets.len() {
            let hosted = &self.plan.targets[index].hosted;
            let (Some(partition), Found::Read(read)) = (hosted, &mut self.found[index]) else {
                continue;
            };
            if partition.changes() == self.seen[index] {
                continue;
            }
            match partition.marks() {
                Ok(marks) if partition.is_hosted() => read.marks = marks,
                _ => {
                    self.take_back(index);
                    any = true;
                }
            }
        }
        any
    }

    /// Forgets what was read of targets whose partitions changed; false when none did.
    pub(super) fn take_back_changed(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.plan.targets.len() {
            let changed = match &self.plan.targets[index].hosted {
                Some(partition) => partition.changes() != self.seen[index],
                None => false,
            };
            if changed {
                self.take_back(index);
                any = true;
            }
        }
        any
    }

    fn take_back(&mut self, index: usize) {
        if let Found::Read(read) = std::mem::replace(&mut self.found[index], Found::NotRead) {
            self.size_bytes -= read.size_bytes;
        }
    }

    fn read(&mut self, index: usize, logs: &Logs<'_>) -> Result<(), Box<ColdTarget>> {
        let found = match self.partition(index, logs) {
            Ok(partition) => {
                self.seen[index] = self.seen_before(index, &partition);
                match self.read_partition(index, &partition, logs) {
                    Ok(read) => Found::Read(read),
                    Err(ReadRefused::Cold(cold)) => return Err(cold),
                    Err(error) => Found::Failed(error.error_code(), None),
                }
            }
            Err((error, leader)) => Found::Failed(error, leader),
        };
        match &found {
            Found::Read(read) => {
                self.size_bytes += read.size_bytes;
                self.urgent |= read.diverging.is_some();
            }
            Found::Failed(..) => self.urgent = true,
            Found::NotRead => {}
        }
        self.found[index] = found;
        Ok(())
    }

    /// What was found by waiting for the disk says nothing of what changed since that began.
    fn seen_before(&self, index: usize, partition: &Partition) -> u64 {
        match &self.offer {
            Some(offer) if offer.index == index => offer.seen,
            _ => partition.changes(),
        }
    }

    /// The hosted partition of a target, from the session's memory or looked up.
    fn partition(
        &mut self,
        index: usize,
        logs: &Logs<'_>,
    ) -> Result<Arc<Partition>, (ErrorCode, Option<CurrentLeader>)> {
        let target = &mut self.plan.targets[index];
        if let Some(partition) = &target.hosted
            && partition.is_hosted()
        {
            return Ok(Arc::clone(partition));
        }
        let topic = hosted::topic(logs, &target.topic);
        let found = hosted::partition(logs, &target.topic, topic.as_deref(), target.partition)?;
        target.hosted = Some(Arc::clone(&found));
        Ok(found)
    }

    fn read_partition(
        &mut self,
        index: usize,
        partition: &Arc<Partition>,
        logs: &Logs<'_>,
    ) -> Result<PartitionRead, ReadRefused> {
        if self.refuse_zstd && partition.config().compression == Compression::Zstd {
            return Err(ReadRefused::Zstd);
        }
        let target = &self.plan.targets[index];
        let left = u64::from(self.max_bytes).saturating_sub(self.size_bytes);
        let from = ReadFrom {
            offset: target.offset,
            max_bytes: target
                .max_bytes
                .min(u32::try_from(left).unwrap_or(u32::MAX)),
            at_least_one: self.size_bytes == 0,
            isolation: self.isolation,
            current_leader_epoch: target.current_leader_epoch,
            last_fetched_epoch: target.last_fetched_epoch,
        };
        if !logs.cold_reads.is_served() {
            return Ok(partition.read(&from)?);
        }
        let (attempts, warmed) = match self.offer.take_if(|offer| offer.index == index) {
            None => (0, None),
            Some(offer) => match offer.outcome {
                Outcome::Warmed(warmed) => (offer.attempts, Some(warmed)),
                Outcome::Read(read) => return Ok(read?),
                Outcome::Lost => return Err(ReadRefused::Lost),
            },
        };
        match partition.read_resident(&from, warmed)? {
            Reading::Found(read) => Ok(read),
            Reading::Cold(part) => Err(ReadRefused::Cold(Box::new(ColdTarget {
                index,
                attempts,
                seen: self.seen[index],
                partition: Arc::clone(partition),
                from,
                part,
            }))),
        }
    }

    /// True when the answer need not wait: enough bytes, nothing to wait for, or bad news.
    pub(super) fn is_complete(&self, min_bytes: u64) -> bool {
        self.urgent || self.plan.targets.is_empty() || self.size_bytes >= min_bytes
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Each hosted partition with its change counter from before its reading.
    pub(super) fn watched(&self) -> impl Iterator<Item = (&Arc<Partition>, u64)> {
        let hosted = self.plan.targets.iter().zip(&self.seen);
        hosted.filter_map(|(target, seen)| Some((target.hosted.as_ref()?, *seen)))
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadRefused {
    #[error("zstd needs Fetch version 10")]
    Zstd,
    #[error("the records are not in memory")]
    Cold(Box<ColdTarget>),
    #[error("the read of the records ended by a defect")]
    Lost,
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

impl ReadRefused {
    fn error_code(&self) -> ErrorCode {
        match self {
            ReadRefused::Zstd => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            ReadRefused::Cold(_) | ReadRefused::Lost => ErrorCode::UNKNOWN_SERVER_ERROR,
            ReadRefused::Partition(error) => error.error_code(),
        }
    }
}

impl Found {
    /// What the answer says, as far as the session cares.
    pub(super) fn said(&self) -> Said {
        match self {
            Found::Read(read) => Said {
                has_records: read.size_bytes > 0,
                must_be_told: read.diverging.is_some(),
                high_watermark: read.marks.high_watermark,
                log_start_offset: read.marks.log_start_offset,
            },
            Found::NotRead | Found::Failed(..) => Said {
                has_records: false,
                must_be_told: true,
                high_watermark: Offset(-1),
                log_start_offset: Offset(-1),
            },
        }
    }
}
