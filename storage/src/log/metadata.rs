//! `partition.metadata` of a new log: written with its first append, synced with its first flush.

use std::io::{self, IoSlice};
use std::sync::Arc;

use ottla_protocol::types::TopicId;

use super::checkpoint::open_or_create;
use crate::disk::{Disk, DiskFile};
use crate::layout::{PARTITION_METADATA, read_partition_metadata};

/// Writes the file; the caller keeps the handle until it is synced.
pub(crate) fn write(disk: &dyn Disk, dir: &str, id: TopicId) -> io::Result<Arc<dyn DiskFile>> {
    let file = open_or_create(disk, &format!("{dir}/{PARTITION_METADATA}"))?;
    let text = format!("version: 0\ntopic_id: {id}");
    file.truncate(0)?;
    file.write_at(0, &[IoSlice::new(text.as_bytes())])?;
    Ok(file)
}

/// The topic id, or zero when the file is missing or damaged: the caller knows it from elsewhere.
pub(crate) fn read(disk: &dyn Disk, dir: &str) -> TopicId {
    read_partition_metadata(disk, dir)
        .ok()
        .flatten()
        .unwrap_or_default()
}
