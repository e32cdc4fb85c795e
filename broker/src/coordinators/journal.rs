//! The log of a coordinator: a turn's records become one batch of the partition.

use std::time::Instant;

use ottla_coordinator::records::GroupRecord;
use ottla_coordinator::{Journal, JournalError};
use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::Offset;
use ottla_storage::log::AppendError;

use crate::broker::Broker;
use crate::flusher::Job;
use crate::partition::{Appended, Partition, PartitionError};
use std::sync::Arc;

pub(super) struct LogJournal<'a> {
    broker: &'a Broker,
    partition: &'a Arc<Partition>,
    now: Instant,
    end: Option<Offset>,
}

impl<'a> LogJournal<'a> {
    pub(super) fn new(
        broker: &'a Broker,
        partition: &'a Arc<Partition>,
        now: Instant,
    ) -> LogJournal<'a> {
        LogJournal {
            broker,
            partition,
            now,
            end: None,
        }
    }

    /// The end of what was appended; `None`: nothing was.
    pub(super) fn end(&self) -> Option<Offset> {
        self.end
    }

    fn appended(&mut self, appended: Appended) {
        self.end = Some(appended.end_offset);
        let flush = &self.broker.flush;
        flush.arrange(self.partition, appended.flush);
        if let Some(write_back) = appended.write_back {
            flush.write_back(self.partition, write_back);
        }
        if appended.rolled {
            flush.push(Job::Checkpoint(Arc::clone(self.partition)));
        }
    }
}

impl Journal for LogJournal<'_> {
    fn append(&mut self, records: &[GroupRecord]) -> Result<(), JournalError> {
        let now_ms = self.broker.clock.wall_ms();
        let mut batch = BatchBuilder::new();
        for record in records {
            let (key, value) = record.encode();
            batch.append(now_ms, Some(&key), value.as_deref(), &[]);
        }
        let batch = batch.build().map_err(|error| {
            tracing::error!(partition = ?self.partition, %error, "records of a group do not fit");
            JournalError(ErrorCode::UNKNOWN_SERVER_ERROR)
        })?;
        match self.partition.append_own(batch, (self.now, now_ms)) {
            Ok(appended) => {
                self.appended(appended);
                let commits = records.iter().filter(|record| is_commit(record));
                self.broker.metrics.groups.committed(commits.count());
                Ok(())
            }
            // Kafka's answer when records do not fit: trying again is of no use.
            Err(PartitionError::Append(
                error @ (AppendError::MessageTooLarge { .. }
                | AppendError::RecordListTooLarge { .. }),
            )) => {
                tracing::warn!(partition = ?self.partition, %error, "a group is too large");
                Err(JournalError(ErrorCode::UNKNOWN_SERVER_ERROR))
            }
            Err(PartitionError::NotHosted) => Err(JournalError(ErrorCode::NOT_COORDINATOR)),
            Err(error) => {
                tracing::warn!(partition = ?self.partition, %error, "a group cannot be written");
                Err(JournalError(ErrorCode::COORDINATOR_NOT_AVAILABLE))
            }
        }
    }
}

fn is_commit(record: &GroupRecord) -> bool {
    matches!(record, GroupRecord::Offset { value: Some(_), .. })
}
