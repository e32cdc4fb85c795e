//! The small files of a controller: its hard state (term, vote, commit) and its snapshots.
//!
//! Both are replaced as a whole, so a crash leaves the old or the new one, and both end with a
//! checksum. A vote is on disk before it is told to anybody, otherwise a node could vote twice.
//! Some older snapshots are kept: one that turns out to be damaged then costs nothing, and the past
//! back to the oldest of them can be reconstructed.

use ottla_protocol::types::Offset;
use ottla_storage::disk::{Disk, read_file, write_file_atomically};
use raft::eraftpb::{ConfState, HardState, Snapshot, SnapshotMetadata};

use super::error::ControllerError;
use super::wire::is_simple;
use crate::image::MetadataImage;
use crate::record::{Reader, RecordError, decode_batch, put_varint};

/// Everything the controller keeps is in this directory.
pub(super) const DIRECTORY: &str = "ottla-metadata";
const HARD_STATE: &str = "ottla-metadata/hard-state";
const HARD_STATE_MAGIC: &[u8; 4] = b"OtHS";
const SNAPSHOT_MAGIC: &[u8; 4] = b"OtMS";
const FORMAT: u8 = 1;
const SNAPSHOT_SUFFIX: &str = ".snapshot";
pub(super) const SNAPSHOTS_KEPT: usize = 4;
/// No snapshot is larger: an image of a million partitions takes about 80 MB.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

pub(super) fn store_hard_state(disk: &dyn Disk, state: &HardState) -> Result<(), ControllerError> {
    let mut body = Vec::new();
    for number in [state.term, state.vote, state.commit] {
        body.extend_from_slice(&number.to_be_bytes());
    }
    let bytes = seal(HARD_STATE_MAGIC, &body);
    write_file_atomically(disk, HARD_STATE, &bytes).map_err(ControllerError::io(HARD_STATE))
}

/// `None` before the first one is stored.
pub(super) fn load_hard_state(disk: &dyn Disk) -> Result<Option<HardState>, ControllerError> {
    if !disk
        .exists(HARD_STATE)
        .map_err(ControllerError::io(HARD_STATE))?
    {
        return Ok(None);
    }
    let bytes = read_file(disk, HARD_STATE, 64).map_err(ControllerError::io(HARD_STATE))?;
    let mut body = Reader {
        bytes: unseal(HARD_STATE_MAGIC, HARD_STATE, &bytes)?,
    };
    let mut read = || {
        body.u64()
            .map_err(|_| damaged(HARD_STATE, "it is too short"))
    };
    Ok(Some(HardState {
        term: read()?,
        vote: read()?,
        commit: read()?,
    }))
}

/// A snapshot on disk: what raft knows of it, and its records still encoded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredSnapshot {
    pub(super) metadata: SnapshotMetadata,
    pub(super) data: Vec<u8>,
}

impl StoredSnapshot {
    pub(super) fn image(&self) -> Result<MetadataImage, RecordError> {
        let records = decode_batch(&self.data)?;
        let applied = Offset(i64::try_from(self.metadata.index).unwrap_or(i64::MAX));
        Ok(MetadataImage::from_snapshot(
            &records,
            applied,
            self.metadata.term,
        ))
    }

    pub(super) fn into_raft(self) -> Snapshot {
        Snapshot {
            data: self.data,
            metadata: Some(self.metadata),
        }
    }
}

/// Writes the snapshot and forgets the oldest. The position of the oldest one that is left.
pub(super) fn store_snapshot(
    disk: &dyn Disk,
    snapshot: &StoredSnapshot,
) -> Result<u64, ControllerError> {
    let metadata = &snapshot.metadata;
    let members = metadata.conf_state.clone().unwrap_or_default();
    debug_assert!(is_simple(&members));
    let mut body = Vec::new();
    body.extend_from_slice(&metadata.index.to_be_bytes());
    body.extend_from_slice(&metadata.term.to_be_bytes());
    for ids in [&members.voters, &members.learners] {
        put_varint(&mut body, ids.len() as u64);
        ids.iter()
            .for_each(|id| body.extend_from_slice(&id.to_be_bytes()));
    }
    body.extend_from_slice(&snapshot.data);
    let path = snapshot_path(metadata.index);
    write_file_atomically(disk, &path, &seal(SNAPSHOT_MAGIC, &body))
        .map_err(ControllerError::io(path))?;
    let indexes = list_snapshots(disk)?;
    for old in indexes.iter().rev().skip(SNAPSHOTS_KEPT) {
        let path = snapshot_path(*old);
        disk.remove(&path).map_err(ControllerError::io(path))?;
    }
    let oldest = indexes.len().saturating_sub(SNAPSHOTS_KEPT);
    Ok(indexes.get(oldest).copied().unwrap_or(metadata.index))
}

/// Puts a damaged snapshot aside, where it is not taken for one but can be looked at.
pub(super) fn set_aside(disk: &dyn Disk, index: u64) -> Result<(), ControllerError> {
    let path = snapshot_path(index);
    let aside = format!("{path}.damaged");
    disk.rename(&path, &aside)
        .map_err(ControllerError::io(path))?;
    disk.sync_dir(DIRECTORY)
        .map_err(ControllerError::io(DIRECTORY))
}

pub(super) fn load_snapshot(
    disk: &dyn Disk,
    index: u64,
) -> Result<StoredSnapshot, ControllerError> {
    let path = snapshot_path(index);
    let bytes =
        read_file(disk, &path, SNAPSHOT_BYTES_MAX).map_err(ControllerError::io(path.as_str()))?;
    let mut body = Reader {
        bytes: unseal(SNAPSHOT_MAGIC, &path, &bytes)?,
    };
    let metadata = decode_metadata(&mut body).map_err(|_| damaged(&path, "its head is wrong"))?;
    if metadata.index != index || !metadata.conf_state.as_ref().is_some_and(is_simple) {
        return Err(damaged(&path, "its head contradicts its name or itself"));
    }
    Ok(StoredSnapshot {
        metadata,
        data: body.bytes.to_vec(),
    })
}

fn decode_metadata(body: &mut Reader<'_>) -> Result<SnapshotMetadata, RecordError> {
    let (index, term) = (body.u64()?, body.u64()?);
    let mut ids = || {
        let count = body.count(8)?;
        (0..count)
            .map(|_| body.u64())
            .collect::<Result<Vec<u64>, RecordError>>()
    };
    let (voters, learners) = (ids()?, ids()?);
    let members = ConfState {
        voters,
        learners,
        ..ConfState::default()
    };
    Ok(SnapshotMetadata {
        conf_state: Some(members),
        index,
        term,
    })
}

/// Positions of the snapshots that are there, oldest first.
pub(super) fn list_snapshots(disk: &dyn Disk) -> Result<Vec<u64>, ControllerError> {
    let entries = disk
        .list(DIRECTORY)
        .map_err(ControllerError::io(DIRECTORY))?;
    let index = |name: &str| name.strip_suffix(SNAPSHOT_SUFFIX)?.parse().ok();
    let mut indexes: Vec<u64> = entries
        .iter()
        .filter_map(|entry| index(&entry.name))
        .collect();
    indexes.sort_unstable();
    Ok(indexes)
}

pub(super) fn snapshot_path(index: u64) -> String {
    format!("{DIRECTORY}/{index:020}{SNAPSHOT_SUFFIX}")
}

/// `[magic][format u8][body][crc32c of everything before]`.
fn seal(magic: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 9);
    bytes.extend_from_slice(magic);
    bytes.push(FORMAT);
    bytes.extend_from_slice(body);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn unseal<'a>(magic: &[u8; 4], path: &str, bytes: &'a [u8]) -> Result<&'a [u8], ControllerError> {
    let (sealed, crc) = bytes
        .split_last_chunk()
        .ok_or_else(|| damaged(path, "it is too short"))?;
    if crc32c::crc32c(sealed) != u32::from_be_bytes(*crc) {
        return Err(damaged(path, "its checksum is wrong"));
    }
    let Some((format, body)) = sealed.strip_prefix(magic).and_then(<[u8]>::split_first) else {
        return Err(damaged(path, "it is another kind of file"));
    };
    if *format != FORMAT {
        let path = path.to_owned();
        return Err(ControllerError::UnknownFormat {
            path,
            found: *format,
            known: FORMAT,
        });
    }
    Ok(body)
}

fn damaged(path: &str, problem: &'static str) -> ControllerError {
    ControllerError::Damaged {
        path: path.to_owned(),
        problem,
    }
}
