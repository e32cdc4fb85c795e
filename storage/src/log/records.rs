//! What a topic wants done with the records of a batch before its log takes it: every record
//! checked (strict validation, and the keys of compacted topics), or the batch written anew in the
//! topic's codec.
//!
//! It may take milliseconds, so it happens before the partition's lock is taken: the work is made
//! from the log's configuration, carried out anywhere, and its batch appended with
//! [`Origin::ClientOpened`]. Recompression follows Kafka's rules: a batch in the topic's codec
//! stays as it is, whatever its level; any other is written anew with dense offset deltas and the
//! true maximum timestamp, for the same producer, epoch, sequence and transaction; and its new
//! size must fit. Memory is bounded by the codecs' windows and the limits of the configuration.

use ottla_protocol::batch::{BatchHeader, Compression, RecordBatch, TimestampType};
use ottla_protocol::record::{Codec, inspect, rewrite};
use ottla_protocol::types::LeaderEpoch;

use super::error::AppendError;
use super::validate::{self, Rules};
use super::{AppendAt, LogConfig, Origin, Validation};

/// Plain records up to here are read and compressed in less than a millisecond.
const SHORT_BYTES: usize = 16 << 10;
/// Levels above take many times longer than the default ones.
const SHORT_ZSTD_LEVEL_MAX: i32 = 9;

impl LogConfig {
    /// True if the records of every batch are looked at.
    pub(crate) fn checks_records(&self) -> bool {
        self.compacted || self.validation == Validation::Strict
    }

    /// What is to be done with a client's batches before they are appended.
    pub fn record_work(&self) -> Option<RecordWork> {
        (self.checks_records() || self.recompression.is_some()).then(|| RecordWork {
            config: self.clone(),
        })
    }
}

/// The work on the records of one batch.
#[derive(Debug)]
pub struct RecordWork {
    config: LogConfig,
}

impl RecordWork {
    /// The codec that the batch must be brought into.
    fn target(&self, header: &BatchHeader) -> Option<Codec> {
        let source = header.compression();
        self.config
            .recompression
            .filter(|codec| source != Ok(codec.compression))
    }

    /// Whether it may keep a thread longer than one with other duties should be kept.
    pub fn is_long(&self, batch: &RecordBatch) -> bool {
        let header = batch.header();
        let Some(target) = self.target(header) else {
            return self.config.checks_records() && header.compression() != Ok(Compression::None);
        };
        let slow = match target.compression {
            Compression::Zstd => target.level > SHORT_ZSTD_LEVEL_MAX,
            Compression::Lz4 => target.level != Codec::LZ4_LEVEL,
            _ => false,
        };
        slow || header.compression() != Ok(Compression::None) || batch.size_bytes() > SHORT_BYTES
    }

    /// How far the batch may expand; what a codec keeps in memory of it at most.
    pub fn plain_bytes_max(&self, batch: &RecordBatch) -> u64 {
        self.config.record_limits.for_compressed(batch.size_bytes())
    }

    /// Checks the batch and its records; answers the batch to append with
    /// [`Origin::ClientOpened`].
    pub fn run(
        &self,
        mut batch: RecordBatch,
        produce_version: i16,
        now_ms: i64,
    ) -> Result<RecordBatch, AppendError> {
        let config = &self.config;
        let at = AppendAt {
            leader_epoch: LeaderEpoch::NONE,
            now_ms,
            origin: Origin::Client { produce_version },
        };
        validate::check_batch(&batch, config, &at)?;
        let Some(target) = self.target(batch.header()) else {
            if !config.checks_records() {
                // In the topic's codec already, and nobody asked to look inside.
                validate::check(&batch, config, &at)?;
                return Ok(batch);
            }
            let mut rules = Rules::new(batch.header(), config, now_ms);
            let passed = inspect(batch.view(), config.record_limits, |head| rules.see(head));
            let max = rules.verdict(passed)?.max_timestamp;
            let header = batch.header();
            if let Some(max) = max.filter(|max| *max != header.max_timestamp)
                && config.timestamp_type == TimestampType::CreateTime
            {
                batch.set_max_timestamp(max);
            }
            return Ok(batch);
        };
        let max_bytes = config.max_message_bytes as usize;
        let mut rules = Rules::new(batch.header(), config, now_ms);
        let rewritten = rewrite(
            batch.view(),
            config.record_limits,
            target,
            max_bytes,
            |head| rules.see(head),
        );
        match rewritten {
            Ok(new) => rules.verdict(Ok(())).map(|_| new),
            Err(error) => rules.verdict(Err(error)).map(|_| batch),
        }
    }
}

#[cfg(test)]
mod tests;
