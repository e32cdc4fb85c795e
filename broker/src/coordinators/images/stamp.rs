//! What an image says about the log that it was made of, and whether the log agrees.
//!
//! The stamp is written with every change of an image. An image is made again when it is of another
//! topic, when it is ahead of the log, when the log no longer has what comes next, when another
//! leadership wrote the record before its offset (the log lost a tail and grew again), and when it
//! is so old that compaction may have removed deletions that it has not seen.

use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::image::{Change, Image, ImageError};
use uuid::Uuid;

use crate::partition::{Partition, PartitionError};

/// No record's key is here; see `images.rs`.
const STAMP: &[u8] = &[0];
const VERSION: u8 = 1;
const STAMP_BYTES: usize = 1 + 16 + 4 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    topic_id: TopicId,
    /// Of the leadership that wrote the last record that is applied.
    leader_epoch: LeaderEpoch,
    written_ms: i64,
}

/// Why an image is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    #[error("it does not say what it is an image of")]
    Stamp,
    #[error("it is of another topic of the name")]
    OtherTopic,
    #[error("it is at offset {applied_to}, ahead of the log's end, {log_end_offset}")]
    Ahead {
        applied_to: Offset,
        log_end_offset: Offset,
    },
    #[error("it is at offset {applied_to}, and the log begins at {log_start_offset} now")]
    Behind {
        applied_to: Offset,
        log_start_offset: Offset,
    },
    #[error("it was made of a tail of leader epoch {image} where the log has one of {log}")]
    OtherTail {
        image: LeaderEpoch,
        log: LeaderEpoch,
    },
    #[error("it was last written {age_ms} ms ago: deletions may be gone from the log since")]
    Old { age_ms: i64 },
}

impl Stamp {
    /// Of an image that has applied everything before `applied_to`.
    pub(super) fn of(
        partition: &Partition,
        applied_to: Offset,
        now_ms: i64,
    ) -> Result<Stamp, PartitionError> {
        Ok(Stamp {
            topic_id: partition.topic_id,
            leader_epoch: partition.epoch_at(Offset(applied_to.0 - 1))?,
            written_ms: now_ms,
        })
    }

    pub(super) fn change(&self) -> Change {
        let mut bytes = Vec::with_capacity(STAMP_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.topic_id.0.as_bytes());
        bytes.extend(self.leader_epoch.0.to_be_bytes());
        bytes.extend(self.written_ms.to_be_bytes());
        Change::put(STAMP, bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Stamp> {
        let (version, rest) = bytes.split_first()?;
        let (topic_id, rest) = rest.split_first_chunk::<16>()?;
        let (leader_epoch, rest) = rest.split_first_chunk::<4>()?;
        let written_ms = rest.try_into().ok()?;
        (*version == VERSION).then_some(Stamp {
            topic_id: TopicId(Uuid::from_bytes(*topic_id)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(*leader_epoch)),
            written_ms: i64::from_be_bytes(written_ms),
        })
    }
}

/// What the log says, to be held against an image.
#[derive(Clone, Copy, Debug)]
struct Log {
    topic_id: TopicId,
    log_start_offset: Offset,
    log_end_offset: Offset,
    /// Of the leadership that wrote the record before the image's offset.
    leader_epoch: LeaderEpoch,
    now_ms: i64,
    delete_retention_ms: i64,
}

/// Why the image does not fit the partition's log; `None` when it does, or is new.
pub(super) fn distrust(
    image: &dyn Image,
    partition: &Partition,
    now_ms: i64,
) -> Result<Option<Distrust>, ImageError> {
    let Some(applied_to) = image.applied_to() else {
        return Ok(None);
    };
    let stamp = image.get(STAMP)?;
    let Some(stamp) = stamp.as_deref().and_then(Stamp::parse) else {
        return Ok(Some(Distrust::Stamp));
    };
    let epoch = partition.epoch_at(Offset(applied_to.0 - 1));
    // A log that cannot be asked is not replayed either.
    let (Ok(marks), Ok(leader_epoch)) = (partition.marks(), epoch) else {
        return Ok(None);
    };
    let log = Log {
        topic_id: partition.topic_id,
        log_start_offset: marks.log_start_offset,
        log_end_offset: marks.log_end_offset,
        leader_epoch,
        now_ms,
        delete_retention_ms: partition.config().delete_retention_ms,
    };
    Ok(stamp.disagrees(applied_to, &log))
}

impl Stamp {
    fn disagrees(&self, applied_to: Offset, log: &Log) -> Option<Distrust> {
        let age_ms = log.now_ms.saturating_sub(self.written_ms);
        // Deletions stay in the log for at least this long; half of it leaves room for a clock that
        // is set, and for a rebuild that takes long.
        let fresh_ms = 0..=log.delete_retention_ms / 2;
        if self.topic_id != log.topic_id {
            return Some(Distrust::OtherTopic);
        }
        if applied_to > log.log_end_offset {
            let log_end_offset = log.log_end_offset;
            return Some(Distrust::Ahead {
                applied_to,
                log_end_offset,
            });
        }
        if applied_to < log.log_start_offset {
            let log_start_offset = log.log_start_offset;
            return Some(Distrust::Behind {
                applied_to,
                log_start_offset,
            });
        }
        if self.leader_epoch != log.leader_epoch {
            let (image, log) = (self.leader_epoch, log.leader_epoch);
            return Some(Distrust::OtherTail { image, log });
        }
        let all_seen = applied_to == log.log_end_offset;
        (!all_seen && !fresh_ms.contains(&age_ms)).then_some(Distrust::Old { age_ms })
    }
}

#[cfg(test)]
impl Stamp {
    pub(super) fn of_topic(self, topic_id: TopicId) -> Stamp {
        Stamp { topic_id, ..self }
    }

    pub(super) fn of_epoch(self, epoch: i32) -> Stamp {
        let leader_epoch = LeaderEpoch(epoch);
        Stamp {
            leader_epoch,
            ..self
        }
    }

    pub(super) fn written_at(self, written_ms: i64) -> Stamp {
        Stamp { written_ms, ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

    fn stamp() -> Stamp {
        Stamp {
            topic_id: TOPIC,
            leader_epoch: LeaderEpoch(3),
            written_ms: NOW_MS - 1_000,
        }
    }

    fn log() -> Log {
        Log {
            topic_id: TOPIC,
            log_start_offset: Offset(10),
            log_end_offset: Offset(50),
            leader_epoch: LeaderEpoch(3),
            now_ms: NOW_MS,
            delete_retention_ms: 86_400_000,
        }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let written = stamp().change().value.unwrap();
        assert_eq!(Stamp::parse(&written), Some(stamp()));
        for len in 0..written.len() {
            assert_eq!(Stamp::parse(&written[..len]), None, "{len} bytes");
        }
        let mut later = written.to_vec();
        later[0] += 1;
        assert_eq!(Stamp::parse(&later), None);
    }

    #[test]
    fn an_image_that_fits_its_log_is_trusted() {
        for applied_to in [10, 11, 49, 50] {
            assert_eq!(stamp().disagrees(Offset(applied_to), &log()), None);
        }
    }

    #[test]
    fn an_image_that_does_not_fit_its_log_is_not() {
        let topic_id = TopicId(Uuid::from_u128(8));
        let other_topic = Stamp {
            topic_id,
            ..stamp()
        };
        let told = other_topic.disagrees(Offset(50), &log());
        assert_eq!(told, Some(Distrust::OtherTopic));
        let told = stamp().disagrees(Offset(51), &log());
        assert!(matches!(told, Some(Distrust::Ahead { .. })), "{told:?}");
        let told = stamp().disagrees(Offset(9), &log());
        assert!(matches!(told, Some(Distrust::Behind { .. })), "{told:?}");
        for epoch in [2, 4] {
            let leader_epoch = LeaderEpoch(epoch);
            let log = Log {
                leader_epoch,
                ..log()
            };
            let told = stamp().disagrees(Offset(40), &log);
            assert!(matches!(told, Some(Distrust::OtherTail { .. })), "{told:?}");
        }
    }

    #[test]
    fn deletions_that_an_old_image_has_not_seen_may_be_gone() {
        let half_a_day_ms = 43_200_000;
        let cases = [
            (half_a_day_ms, true),
            (half_a_day_ms + 1, false),
            // The clock was set back.
            (-1, false),
        ];
        for (age_ms, trusted) in cases {
            let written_ms = NOW_MS - age_ms;
            let old = Stamp {
                written_ms,
                ..stamp()
            };
            let told = old.disagrees(Offset(40), &log());
            assert_eq!(told.is_none(), trusted, "{age_ms}: {told:?}");
            // It has seen everything there is, so nothing was removed that it does not know.
            assert_eq!(old.disagrees(Offset(50), &log()), None, "{age_ms}");
        }
        let never = Log {
            delete_retention_ms: 0,
            ..log()
        };
        assert!(stamp().disagrees(Offset(40), &never).is_some());
    }
}
