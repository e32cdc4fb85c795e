//! The start of a partition's log as retention moves it.
//!
//! A wanted start is first written into the file of log starts ([`Partition::checkpoint_marks`]
//! names it), and only then does the log begin there ([`Partition::log_start_saved`]) and segments
//! below it go. So a start that somebody has seen never moves back. Deliberately absent: when
//! retention looks (`crate::retention`), DeleteRecords.

use ottla_protocol::types::Offset;
use ottla_storage::log::{Expired, OldFiles, Retention};

use super::{Partition, PartitionError};
use crate::config::TopicConfig;

/// What a topic's configuration keeps. Without `delete` in its policy: everything.
fn retention_of(config: &TopicConfig) -> Retention {
    if !config.cleanup_policy.delete {
        return Retention::default();
    }
    let max_age_ms = config.retention_ms;
    Retention {
        max_age_ms: max_age_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        max_bytes: config.retention_bytes,
    }
}

impl Partition {
    /// Looks for segments that need not be kept, and wants the log to begin behind them.
    pub fn expire(&self, now_ms: i64) -> Result<Option<Expired>, PartitionError> {
        self.with(|inner, _| {
            let retention = retention_of(&inner.config);
            let high_watermark = inner.state.high_watermark();
            let expired = inner
                .log_mut()?
                .expired(&retention, high_watermark, now_ms)?;
            if let Some(expired) = &expired {
                inner.log_start_wanted = inner.log_start_wanted.max(expired.log_start_offset);
            }
            Ok(expired)
        })
    }

    /// The checkpoint file says that the log begins at `offset`, or later.
    pub fn log_start_saved(&self, offset: Offset) {
        self.with(|inner, effects| {
            let Ok(log) = inner.log_mut() else { return };
            if let Err(error) = log.advance_log_start_offset(offset) {
                tracing::error!(partition = ?self, %error, "the log start did not move");
                return;
            }
            self.changed();
            self.fire_fetches(effects);
        });
    }

    /// Takes segments below the log start out of the log; true with the files when a checkpoint
    /// would let more of them go.
    pub fn delete_old_segments(&self) -> Result<(OldFiles, bool), PartitionError> {
        self.with(|inner, _| {
            let log = inner.log_mut()?;
            let old = log.delete_segments_below_log_start()?;
            Ok((old, log.has_segments_below_log_start()))
        })
    }
}
