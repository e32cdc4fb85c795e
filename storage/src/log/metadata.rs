//! `partition.metadata` of a new log: written with its first append, synced with its first flush.

use std::io::{self, IoSlice};

use ottla_protocol::types::TopicId;

use super::checkpoint::open_or_create;
use crate::disk::Disk;
use crate::layout::{PARTITION_METADATA, format_partition_metadata, read_partition_metadata};

/// Writes the file; the caller syncs it later.
pub(crate) fn write(disk: &dyn Disk, dir: &str, id: TopicId) -> io::Result<()> {
    let file = open_or_create(disk, &format!("{dir}/{PARTITION_METADATA}"))?;
    let text = format_partition_metadata(id);
    file.truncate(0)?;
    file.write_at(0, &[IoSlice::new(text.as_bytes())])
}

/// Waits until the file is on the disk. One that is gone, with its topic, has nothing to lose.
pub(crate) fn sync(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    match disk.open(&format!("{dir}/{PARTITION_METADATA}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file?.sync_data(),
    }
}

/// The topic id, or zero when the file is missing or damaged: the caller knows it from elsewhere.
pub(crate) fn read(disk: &dyn Disk, dir: &str) -> TopicId {
    read_partition_metadata(disk, dir)
        .ok()
        .flatten()
        .unwrap_or_default()
}
