//! A copy of a log in another log directory, which takes its place in the end.
//!
//! Batches are appended to the copy as a follower appends them. When it has all of them it takes
//! over what is not in batches (epochs, producers, the log start), is made durable as a whole, and
//! gets its final name. A copy without the marker is unfinished: a crash leaves it, and the log it
//! was made from is as it was. With the marker it is complete, and nothing was appended since.
//! Deliberately absent: when to copy, and holding back writers meanwhile (`ottla-broker`).

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use ottla_protocol::batch::{BatchHeader, RecordBatch, RecordBatchView};
use ottla_protocol::types::{LeaderEpoch, Offset};

use super::checkpoint::{open_or_create, remove_if_there};
use super::error::{AppendError, Fault, LogError};
use super::{AppendAt, Log, Origin};
use crate::disk::{Disk, same_error};

/// In the folder of a copy that is complete.
const COMPLETE: &str = "ottla.complete";

impl Log {
    /// An empty log that will become a copy of `original`. Its folder is made now.
    pub fn begin_copy(
        original: &Log,
        disk: Arc<dyn Disk>,
        dir: &str,
        from: Offset,
    ) -> Result<Log, LogError> {
        let mut copy = Log::empty(disk, dir, original.config.clone(), from);
        copy.topic_id = original.topic_id;
        // What is copied from now on has been compacted that far at least.
        copy.compacted_to = original.compacted_to;
        copy.create_directory()?;
        Ok(copy)
    }

    /// The base offset of the batch that the log start lies in, where a copy has to begin.
    pub fn first_batch_offset(data: &[u8]) -> Option<Offset> {
        let view = RecordBatchView::parse(data).ok()?;
        Some(view.header().base_offset)
    }

    /// Appends whole batches as another log has them; answers how many bytes.
    pub fn append_copies(&mut self, data: &[u8], now_ms: i64) -> Result<u64, AppendError> {
        let at = AppendAt {
            leader_epoch: LeaderEpoch::NONE,
            now_ms,
            origin: Origin::Replica,
        };
        let mut position = 0;
        while position < data.len() {
            let rest = &data[position..];
            let fault = |fault| LogError::Corrupt {
                path: self.dir.to_string(),
                position: position as u64,
                fault,
            };
            let view = RecordBatchView::parse(rest).map_err(|error| fault(error.into()))?;
            if !view.crc_is_valid() {
                return Err(fault(Fault::Crc).into());
            }
            let size_bytes = view.size_bytes();
            let batch = RecordBatch::from_bytes(BytesMut::from(&rest[..size_bytes]));
            let batch = batch.map_err(|error| fault(error.into()))?;
            let header: BatchHeader = *batch.header();
            // A batch that was read twice.
            if header.base_offset >= self.log_end_offset {
                self.append(batch, &at)?;
            }
            position += size_bytes;
        }
        Ok(data.len() as u64)
    }

    /// Takes over what batches do not say. The copy has all batches of the original.
    pub fn take_over_from(&mut self, original: &Log, now_ms: i64) -> Result<(), LogError> {
        let end = original.log_end_offset;
        assert!(
            self.log_end_offset <= end,
            "a copy ends where its original ends"
        );
        // Where no batch tells the end, an empty segment does, as in the original.
        if self.segments.is_empty() && !original.segments.is_empty() {
            self.log_end_offset = end;
            self.add_segment(end, now_ms)?;
        } else if self.log_end_offset < end {
            self.log_end_offset = end;
            self.roll(end, now_ms)?;
        }
        self.config = original.config.clone();
        self.epochs = original.epochs.clone();
        self.epochs_version += 1;
        self.producers = original.producers.clone();
        // One that was written from the batches alone knows less.
        self.snapshots.remove(&end);
        self.pending_snapshots.retain(|(offset, _)| *offset != end);
        self.advance_log_start_offset(original.log_start_offset)
    }

    /// Makes everything durable and leaves the marker of a complete copy. Blocks on the disk.
    pub fn complete_copy(&mut self) -> Result<(), LogError> {
        self.sync_everything()?;
        let path = format!("{}/{COMPLETE}", self.dir);
        let marked = open_or_create(&*self.disk, &path)
            .and_then(|file| file.sync_data())
            .and_then(|()| self.disk.sync_dir(&self.dir));
        marked.map_err(|error| LogError::io(path, error))
    }

    /// Everything is on the disk when this returns, checkpoint files included.
    pub fn sync_everything(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        let work = self.begin_checkpoint();
        let result = work.run();
        let failed = match &result {
            Err(error) => Some(same_error(error)),
            Ok(()) => work.checkpoint_error(),
        };
        self.finish_flush(work, result);
        match failed {
            Some(error) => Err(LogError::io(&*self.dir, error)),
            None => Ok(()),
        }
    }

    /// The folder was renamed.
    pub fn renamed(&mut self, dir: &str) {
        self.dir = Arc::from(dir);
        self.directory.new = true;
    }
}

/// Whether the copy in a folder is complete.
pub fn is_complete_copy(disk: &dyn Disk, dir: &str) -> io::Result<bool> {
    disk.exists(&format!("{dir}/{COMPLETE}"))
}

/// Takes the marker away: from now on the folder is a log like any other, or an unfinished copy.
pub fn remove_copy_marker(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    remove_if_there(disk, &format!("{dir}/{COMPLETE}"))?;
    disk.sync_dir(dir)
}
