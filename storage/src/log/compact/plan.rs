//! What a round of compaction may touch, and which segments become one: arithmetic over segment
//! sizes and offsets, no file.

use std::ops::Range;

use ottla_protocol::types::Offset;

use crate::log::Log;
use crate::log::error::LogError;

/// When records of a log may be compacted, and when they must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Segments with younger records are left alone.
    pub min_lag_ms: i64,
    /// The log is compacted at the latest when a record has been waiting for so long.
    pub max_lag_ms: i64,
}

/// What a round could do for one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// Up to here the log was compacted before.
    pub first_dirty: Offset,
    /// The round ends here at the latest: the start of a segment.
    pub first_uncleanable: Offset,
    /// Bytes of segments below the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes of segments in between.
    pub dirty_bytes: u64,
    /// A record has been waiting for longer than the policy allows.
    pub overdue: bool,
}

impl Cleanable {
    pub fn dirty_ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        match all {
            0 => 0.0,
            _ => self.dirty_bytes as f64 / all as f64,
        }
    }

    /// Whether a round is worth it.
    pub fn is_due(&self, min_ratio: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.dirty_ratio() > min_ratio)
    }
}

impl Log {
    /// What a round of compaction could do now.
    pub fn cleanable(
        &mut self,
        policy: &CompactionPolicy,
        high_watermark: Offset,
        now_ms: i64,
    ) -> Result<Cleanable, LogError> {
        self.check_usable()?;
        let start = self.log_start_offset;
        let first_dirty = match (start..=self.log_end_offset).contains(&self.compacted_to) {
            true => self.compacted_to,
            false => start,
        };
        // Nothing that could still be cut off, be undecided, or be lost by a crash.
        let bound = self.last_stable_offset(high_watermark);
        let bound = bound.min(self.checkpointed);
        let (mut clean_bytes, mut dirty_bytes) = (0, 0);
        let mut first_uncleanable = self.segments_start();
        for at in 0..self.segments.len().saturating_sub(1) {
            let end = self.segment_end(at);
            let size_bytes = u64::from(self.segments[at].size_bytes);
            if end > first_dirty {
                let youngest = self.largest_timestamp(at)?;
                let fresh = policy.min_lag_ms > 0 && youngest > now_ms - policy.min_lag_ms;
                if end > bound || fresh {
                    break;
                }
                dirty_bytes += size_bytes;
            } else {
                clean_bytes += size_bytes;
            }
            first_uncleanable = end;
        }
        Ok(Cleanable {
            first_dirty,
            first_uncleanable,
            clean_bytes,
            dirty_bytes,
            overdue: self.is_overdue(policy, first_dirty, now_ms)?,
        })
    }

    /// Whether a sealed dirty segment began longer ago than the policy lets records wait.
    fn is_overdue(
        &mut self,
        policy: &CompactionPolicy,
        first_dirty: Offset,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let max_lag_ms = policy.max_lag_ms.max(policy.min_lag_ms);
        let Some(deadline) = now_ms.checked_sub(max_lag_ms).filter(|at| *at > 0) else {
            return Ok(false);
        };
        for at in self.segment_of(first_dirty)..self.segments.len().saturating_sub(1) {
            if self.segment_end(at) <= first_dirty {
                continue;
            }
            let began = self.segments[at].first_timestamp(&*self.disk, &self.dir)?;
            if (1..deadline).contains(&began) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What grouping must know of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) size_bytes: u64,
}

/// Neighbours that fit one segment together; one that is too large already stays alone.
pub(crate) fn groups(
    extents: &[Extent],
    segment_size_bytes: u64,
    index_entries_max: u64,
    index_interval_bytes: u64,
) -> Vec<Range<usize>> {
    let entries = |size_bytes: u64| size_bytes / (index_interval_bytes + 1) + 1;
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut size_bytes, mut base) = (0, Offset::ZERO);
    for (at, extent) in extents.iter().enumerate() {
        let together = size_bytes + extent.size_bytes;
        let fits = together <= segment_size_bytes
            && entries(together) < index_entries_max
            && extent.end_offset.0 - base.0 <= i64::from(i32::MAX);
        match groups.last_mut() {
            Some(group) if fits => {
                group.end = at + 1;
                size_bytes = together;
            }
            _ => {
                groups.push(at..at + 1);
                (size_bytes, base) = (extent.size_bytes, extent.base_offset);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(sizes: &[u64], offsets_each: i64) -> Vec<Extent> {
        let extent = |(n, &size_bytes): (usize, &u64)| Extent {
            base_offset: Offset(n as i64 * offsets_each),
            end_offset: Offset((n as i64 + 1) * offsets_each),
            size_bytes,
        };
        sizes.iter().enumerate().map(extent).collect()
    }

    #[test]
    fn neighbours_are_joined_up_to_the_size_of_a_segment() {
        let sizes = extents(&[40, 40, 40, 100, 10, 500, 0, 20], 10);
        let groups = groups(&sizes, 100, u64::MAX, 4_096);
        assert_eq!(groups, [0..2, 2..3, 3..4, 4..5, 5..6, 6..8]);
    }

    #[test]
    fn offsets_of_a_group_fit_its_indexes() {
        let sizes = extents(&[1, 1, 1, 1], 1 << 30);
        assert_eq!(
            groups(&sizes, 100, u64::MAX, 4_096),
            [0..1, 1..2, 2..3, 3..4]
        );
        let sizes = extents(&[1, 1, 1, 1], (1 << 30) - 1);
        assert_eq!(groups(&sizes, 100, u64::MAX, 4_096), [0..2, 2..4]);
        let sizes = extents(&[100, 100, 100], 10);
        assert_eq!(groups(&sizes, 1_000, 3, 99), [0..1, 1..2, 2..3]);
        assert_eq!(groups(&sizes, 1_000, 4, 99), [0..2, 2..3]);
    }

    #[test]
    fn a_round_is_due_by_its_ratio_or_because_a_record_waited_too_long() {
        let cleanable = Cleanable {
            first_dirty: Offset(0),
            first_uncleanable: Offset(9),
            clean_bytes: 50,
            dirty_bytes: 50,
            overdue: false,
        };
        assert!(!cleanable.is_due(0.5) && cleanable.is_due(0.49));
        let overdue = Cleanable {
            overdue: true,
            ..cleanable
        };
        assert!(overdue.is_due(1.0));
        let nothing = Cleanable {
            dirty_bytes: 0,
            ..overdue
        };
        assert!(!nothing.is_due(0.0));
    }
}
