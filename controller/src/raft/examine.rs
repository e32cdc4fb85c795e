//! What a start would find of the metadata in a directory that nobody uses.
//!
//! The files are read once into memory and opened there as a start opens them, so nothing changes
//! on the disk. Deliberately absent: the lock of the directory (the caller's).

use std::io::IoSlice;
use std::sync::Arc;

use ottla_storage::disk::{Disk, MemoryDisk, read_file};
use raft::eraftpb::ConfState;

use super::error::ControllerError;
use super::state::{self, DIRECTORY};
use super::store::Store;
use super::{decode_entry, log};

/// The metadata of a directory, looked at.
#[derive(Debug)]
pub struct Examined {
    pub snapshots: usize,
    /// In the log, after the newest snapshot but one.
    pub entries: u64,
    pub bytes: u64,
    /// Files that cannot be used, and why; a start does without them.
    pub damaged: Vec<(String, ControllerError)>,
    /// Why a broker would not start on it.
    pub fatal: Option<ControllerError>,
}

/// `None`: there is no metadata. Fails only when the disk does.
pub fn examine(disk: &dyn Disk) -> Result<Option<Examined>, ControllerError> {
    let io = || ControllerError::io(DIRECTORY);
    if !disk.exists(DIRECTORY).map_err(io())? {
        return Ok(None);
    }
    let copy = MemoryDisk::volatile();
    let mut examined = Examined {
        snapshots: 0,
        entries: 0,
        bytes: 0,
        damaged: Vec::new(),
        fatal: None,
    };
    for folder in [DIRECTORY, log::DIRECTORY] {
        if disk.exists(folder).map_err(io())? {
            examined.bytes += copy_files(disk, &copy, folder)?;
        }
    }
    for index in state::list_snapshots(&copy)? {
        examined.snapshots += 1;
        if let Err(error) = state::load_snapshot(&copy, index) {
            examined.damaged.push((state::snapshot_path(index), error));
        }
    }
    if examined.snapshots == 0 {
        // A start would begin a new cluster here.
        examined.fatal = Some(ControllerError::NoSnapshot);
        return Ok(Some(examined));
    }
    match Store::open(Arc::new(copy), &ConfState::default()) {
        Ok((store, _)) => look_at_entries(&store, &mut examined),
        Err(error) => examined.fatal = Some(error),
    }
    Ok(Some(examined))
}

fn look_at_entries(store: &Store, examined: &mut Examined) {
    for index in store.first_index()..=store.last_index() {
        let Some(entry) = store.entry(index) else {
            continue;
        };
        examined.entries += 1;
        if let Err(error) = decode_entry(entry) {
            examined.fatal.get_or_insert(error);
        }
    }
}

/// How many bytes there were.
fn copy_files(from: &dyn Disk, to: &MemoryDisk, folder: &str) -> Result<u64, ControllerError> {
    let io = |path: &str| ControllerError::io(path.to_owned());
    to.create_dir(folder).map_err(io(folder))?;
    let mut bytes = 0;
    let entries = from.list(folder).map_err(io(folder))?;
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let path = format!("{folder}/{}", entry.name);
        let content = read_file(from, &path, u64::MAX).map_err(io(&path))?;
        let file = to.create(&path).map_err(io(&path))?;
        let written = file.write_at(0, &[IoSlice::new(&content)]);
        written.map_err(io(&path))?;
        bytes += content.len() as u64;
    }
    Ok(bytes)
}
