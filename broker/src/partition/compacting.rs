//! Compaction as far as it touches a partition: when its log is due, and the door of a round to the
//! log. A log that a round left poisoned takes the partition offline, like any failed sync.

use ottla_storage::log::Log;
use ottla_storage::log::compact::{Cleanable, CompactionPolicy, LogAccess};

use super::{LogSlot, Partition, PartitionError};

impl LogAccess for Partition {
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.with(|inner, effects| {
            let log = inner.log_mut().ok()?;
            let result = f(log);
            if log.poisoned() {
                tracing::error!(partition = ?self, "offline: its files could not be replaced");
                self.leave(inner, LogSlot::Offline, effects);
            }
            Some(result)
        })
    }
}

impl Partition {
    /// What a round of compaction could do here; `None` when the topic is not compacted.
    pub fn cleanable(&self, now_ms: i64) -> Result<Option<Cleanable>, PartitionError> {
        self.with(|inner, _| {
            if !inner.config.cleanup_policy.compact {
                return Ok(None);
            }
            let policy = CompactionPolicy {
                min_lag_ms: inner.config.min_compaction_lag_ms,
                max_lag_ms: inner.config.max_compaction_lag_ms,
            };
            let high_watermark = inner.state.high_watermark();
            let log = inner.log_mut()?;
            Ok(Some(log.cleanable(&policy, high_watermark, now_ms)?))
        })
    }

    /// Seals the active segment, so that all that is committed can be compacted.
    pub fn seal_active_segment(&self, now_ms: i64) -> Result<(), PartitionError> {
        self.with(|inner, _| Ok(inner.log_mut()?.seal_active_segment(now_ms)?))
    }
}
