//! Raft's entries: all that may still be asked for in memory, all of them on a `storage` log.
//!
//! One record batch per entry: offset = index, partition leader epoch = term, timestamp = the wall
//! time at which it was proposed. The batch's one record has the key
//! `[format u8][entry type u8][context]` and the entry's data as value, so every tool that reads a
//! partition reads this log too. What is appended is synced before `append` returns.
//!
//! Invariant: the entries in memory are consecutive, and the log ends with the last of them.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_protocol::batch::{BatchBuilder, RecordBatch, RecordBatchView};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::Disk;
use ottla_storage::log::{AppendAt, Log, LogConfig, LogError, OpenLog, Origin, TailBudget};
use raft::eraftpb::Entry;
use uuid::Uuid;

use super::error::ControllerError;

pub(super) const DIRECTORY: &str = "ottla-metadata/log";
/// The id that Kafka gives its own metadata topic.
const TOPIC_ID: TopicId = TopicId(Uuid::from_u128(1));
const ENTRY_FORMAT: u8 = 1;
/// The data of one entry is no larger.
pub(super) const ENTRY_BYTES_MAX: usize = 15 << 20;
const READ_BYTES: u32 = 1 << 20;

pub(super) struct EntryLog {
    log: Log,
    entries: VecDeque<Entry>,
}

impl EntryLog {
    /// Whatever is on disk, an empty log when there is none, with the entries after `after`.
    /// The log may start anywhere up to the entry that follows `snapshot`, the newest one.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        after: u64,
        snapshot: u64,
    ) -> Result<EntryLog, ControllerError> {
        let exists = disk
            .exists(DIRECTORY)
            .map_err(ControllerError::io(DIRECTORY))?;
        if !exists {
            let log = Log::create(disk, DIRECTORY, TOPIC_ID, config()).map_err(failed)?;
            return Ok(EntryLog {
                log,
                entries: VecDeque::new(),
            });
        }
        // The log is short and nothing else vouches for it, so all of it is checked, always: what
        // lies below the recovery point is only trusted as far as a producer snapshot goes, and
        // here is none.
        let from = OpenLog {
            recovery_point: offset(snapshot + 1),
            log_start_offset: Offset(0),
            clean: false,
            synced: false,
        };
        let (log, report) = Log::open(disk, DIRECTORY, config(), from, 0).map_err(failed)?;
        tracing::debug!(?report, "metadata log opened");
        let entries = read_entries(&log, offset(after + 1))?;
        Ok(EntryLog { log, entries })
    }

    /// Whether there are entries on disk, found out without opening (and so repairing) the log:
    /// without a snapshot nobody knows where it may start.
    pub(super) fn exists(disk: &dyn Disk) -> Result<bool, ControllerError> {
        let io = ControllerError::io(DIRECTORY);
        if !disk.exists(DIRECTORY).map_err(io)? {
            return Ok(false);
        }
        let files = disk
            .list(DIRECTORY)
            .map_err(ControllerError::io(DIRECTORY))?;
        Ok(files
            .iter()
            .any(|file| file.name.ends_with(".log") && file.len_bytes > 0))
    }

    /// The index that the next entry gets, unless entries are overwritten.
    pub(super) fn next_index(&self) -> u64 {
        self.log.log_end_offset().0.unsigned_abs()
    }

    pub(super) fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.index)
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        self.entries
            .get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Entries `low..high`, which must be there.
    pub(super) fn range(&self, low: u64, high: u64) -> impl Iterator<Item = &Entry> {
        (low..high).map_while(|index| self.get(index))
    }

    /// Forgets everything; the next entry has index `next`.
    pub(super) fn restart_at(&mut self, next: u64) -> Result<(), ControllerError> {
        self.log
            .truncate_fully_and_start_at(offset(next))
            .map_err(failed)?;
        self.entries.clear();
        Ok(())
    }

    /// Appends entries, overwriting those that are there from the first one on, and syncs them.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), ControllerError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        assert!(
            first.index <= self.next_index(),
            "the metadata log has no gaps"
        );
        if first.index < self.next_index() {
            self.log.truncate_to(offset(first.index)).map_err(failed)?;
            while self
                .entries
                .back()
                .is_some_and(|last| last.index >= first.index)
            {
                self.entries.pop_back();
            }
        }
        let mut rolled = false;
        for entry in entries {
            let at = AppendAt {
                leader_epoch: leader_epoch(entry.term),
                now_ms: proposed_at_ms(entry),
                origin: Origin::Replica,
            };
            let appended = self.log.append(encode_entry(entry)?, &at).map_err(failed)?;
            assert!(
                appended.base_offset == offset(entry.index),
                "offset = index"
            );
            rolled |= appended.rolled;
            self.entries.push_back(entry.clone());
        }
        self.sync(rolled)
    }

    fn sync(&mut self, rolled: bool) -> Result<(), ControllerError> {
        let work = if rolled {
            self.log.begin_checkpoint()
        } else {
            self.log.begin_flush()
        };
        let result = work.run();
        let failure = result
            .as_ref()
            .err()
            .map(|error| match error.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::from(error.kind()),
            });
        self.log.finish_flush(work, result);
        failure.map_or(Ok(()), |error| Err(ControllerError::Sync(error)))
    }

    /// Entries up to and including `index` are not needed in memory any more.
    pub(super) fn release_through(&mut self, index: u64) {
        while self
            .entries
            .front()
            .is_some_and(|first| first.index <= index)
        {
            self.entries.pop_front();
        }
    }

    /// Entries up to and including `index` are not needed at all any more.
    pub(super) fn delete_through(&mut self, index: u64) -> Result<(), ControllerError> {
        self.log
            .advance_log_start_offset(offset(index + 1))
            .map_err(failed)?;
        let old = self.log.delete_segments_below_log_start().map_err(failed)?;
        old.remove().map_err(|source| {
            failed(LogError::Io {
                path: self.log.dir().to_owned(),
                source,
            })
        })
    }

    /// Indexes of the first and the last entry that are on disk; the first is larger if none is.
    pub(super) fn on_disk(&self) -> (u64, u64) {
        let first = self.log.log_start_offset().0.unsigned_abs();
        (first, self.next_index().saturating_sub(1))
    }

    /// Entries `low..=high` from disk; fails if they are not all there.
    pub(super) fn read(&self, low: u64, high: u64) -> Result<Vec<Entry>, ControllerError> {
        let mut entries = read_entries(&self.log, offset(low))?;
        entries.retain(|entry| (low..=high).contains(&entry.index));
        match entries.len() as u64 == (high + 1).saturating_sub(low) {
            true => Ok(entries.into()),
            false => Err(ControllerError::Damaged {
                path: DIRECTORY.to_owned(),
                problem: "some of the entries asked for are missing",
            }),
        }
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ControllerError {
    ControllerError::Log(Box::new(error))
}

fn config() -> LogConfig {
    LogConfig {
        // Segments are what old entries are deleted by.
        segment_size_bytes: 17 << 20,
        segment_ms: i64::MAX,
        max_message_bytes: ENTRY_BYTES_MAX as u32 + (1 << 20),
        timestamp_after_max_ms: i64::MAX,
        // Entries are read back once, at the start.
        tail_budget: TailBudget::new(0),
        ..LogConfig::default()
    }
}

fn offset(index: u64) -> Offset {
    Offset(i64::try_from(index).expect("indexes count proposals, which are fewer than 2^63"))
}

fn leader_epoch(term: u64) -> LeaderEpoch {
    LeaderEpoch(i32::try_from(term).expect("terms count elections, which are fewer than 2^31"))
}

/// Proposals carry the leader's wall time as context; raft's own entries have none.
fn proposed_at_ms(entry: &Entry) -> i64 {
    let context: Result<[u8; 8], _> = entry.context.as_slice().try_into();
    context.map_or(0, i64::from_be_bytes).max(0)
}

fn encode_entry(entry: &Entry) -> Result<RecordBatch, ControllerError> {
    let mut key = vec![ENTRY_FORMAT, entry.entry_type as u8];
    key.extend_from_slice(&entry.context);
    let mut builder = BatchBuilder::new()
        .base_offset(offset(entry.index))
        .leader_epoch(leader_epoch(entry.term));
    builder.append(proposed_at_ms(entry), Some(&key), Some(&entry.data), &[]);
    builder.build().map_err(failed)
}

fn decode_entry(batch: &RecordBatchView<'_>) -> Result<Entry, ControllerError> {
    let header = batch.header();
    let damaged = |problem| ControllerError::Damaged {
        path: DIRECTORY.to_owned(),
        problem,
    };
    let limits = RecordLimits::default();
    let mut records = Records::open(*batch, limits).map_err(failed)?;
    let record = records
        .next_ref()
        .ok_or_else(|| damaged("a batch has no record"))?;
    let record = record.map_err(failed)?;
    let (Some(key), Some(value)) = (record.key(), record.value()) else {
        return Err(damaged("an entry has no key or no value"));
    };
    let [format, entry_type, context @ ..] = key else {
        return Err(damaged("the key of an entry is too short"));
    };
    if *format != ENTRY_FORMAT {
        let (path, known) = (DIRECTORY.to_owned(), ENTRY_FORMAT);
        return Err(ControllerError::UnknownFormat {
            path,
            found: *format,
            known,
        });
    }
    Ok(Entry {
        entry_type: i32::from(*entry_type),
        term: u64::try_from(header.leader_epoch.0).map_err(|_| damaged("a term is negative"))?,
        index: header.base_offset.0.unsigned_abs(),
        data: value.to_vec(),
        context: context.to_vec(),
        ..Entry::default()
    })
}

fn read_entries(log: &Log, from: Offset) -> Result<VecDeque<Entry>, ControllerError> {
    let mut entries = VecDeque::<Entry>::new();
    let (mut from, end) = (from.max(log.log_start_offset()), log.log_end_offset());
    while from < end {
        let read = log.read(from, READ_BYTES, end, true).map_err(failed)?;
        for data in &read.data {
            let bytes = match data {
                ottla_storage::disk::RecordData::Bytes(bytes) => bytes.clone(),
                ottla_storage::disk::RecordData::File(range) => {
                    range.read().map_err(ControllerError::io(DIRECTORY))?
                }
            };
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let batch = RecordBatchView::parse(rest).map_err(failed)?;
                push_entry(&mut entries, decode_entry(&batch)?)?;
                rest = &rest[batch.size_bytes()..];
            }
        }
        from = read.next_offset;
    }
    Ok(entries)
}

fn push_entry(entries: &mut VecDeque<Entry>, entry: Entry) -> Result<(), ControllerError> {
    let follows = |last: &Entry| entry.index == last.index + 1 && entry.term >= last.term;
    if !entries.back().is_none_or(follows) {
        let problem = "its entries are not consecutive";
        return Err(ControllerError::Damaged {
            path: DIRECTORY.to_owned(),
            problem,
        });
    }
    entries.push_back(entry);
    Ok(())
}
