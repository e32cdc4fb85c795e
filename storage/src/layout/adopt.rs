//! Taking over a directory that Apache Kafka wrote: what of it is decided by which file.
//!
//! Kafka refuses to start beside folders that it does not know, so everything new is made inside
//! its own metadata folder first. Then the stamp is written, which is the moment from which the
//! directory is ours, and two renames follow that any later start completes:
//!
//! ```text
//! __cluster_metadata-0/ottla-metadata/   made first; Kafka does not look there
//! ottla.format                           from now on the directory is ours
//! ottla-metadata/                        moved out
//! kafka-cluster-metadata/                what __cluster_metadata-0 is called now; kept
//! ```
//!
//! Whoever wants to go back before anything was written renames the folder back and removes the
//! stamp.

use std::io::{self, IoSlice};

use super::identity::{read_identity, read_stamp, write_stamp};
use super::{CONTROLLER_DIR, Identity, LayoutError};
use crate::disk::Disk;

/// Kafka's metadata log.
pub const KAFKA_METADATA_DIR: &str = "__cluster_metadata-0";
/// The same folder once the directory is ours.
pub const KAFKA_METADATA_KEPT: &str = "kafka-cluster-metadata";

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Nobody,
    Kafka(Identity),
    Ours(Identity),
}

pub fn owner(disk: &dyn Disk) -> Result<Owner, LayoutError> {
    Ok(match (read_stamp(disk)?, read_identity(disk)?) {
        (_, None) => Owner::Nobody,
        (false, Some(identity)) => Owner::Kafka(identity),
        (true, Some(identity)) => Owner::Ours(identity),
    })
}

fn waiting() -> String {
    format!("{KAFKA_METADATA_DIR}/{CONTROLLER_DIR}")
}

/// Puts our metadata where it waits for the stamp, and then stamps. `files`: names and contents.
pub fn adopt(disk: &dyn Disk, files: &[(String, Vec<u8>)]) -> Result<(), LayoutError> {
    let dir = waiting();
    place(disk, &dir, files).map_err(|error| LayoutError::io(&dir, error))?;
    write_stamp(disk)?;
    finish_adoption(disk).map(|_| ())
}

/// Makes another log directory of the same node ours. To be done before [`adopt`] of the one with
/// the metadata: Kafka does not mind the stamp, and until that one is written it still starts.
pub fn adopt_beside(disk: &dyn Disk) -> Result<(), LayoutError> {
    write_stamp(disk)
}

fn place(disk: &dyn Disk, dir: &str, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    if disk.exists(dir)? {
        disk.remove_dir_all(dir)?;
    }
    disk.create_dir(dir)?;
    for (name, bytes) in files {
        let file = disk.create(&format!("{dir}/{name}"))?;
        file.write_at(0, &[IoSlice::new(bytes)])?;
        file.sync_data()?;
    }
    disk.sync_dir(dir)?;
    disk.sync_dir(KAFKA_METADATA_DIR)
}

/// Completes an adoption whose stamp is written; true if there was anything to do.
pub(super) fn finish_adoption(disk: &dyn Disk) -> Result<bool, LayoutError> {
    let finish = || {
        if !disk.exists(KAFKA_METADATA_DIR)? {
            return Ok(false);
        }
        if disk.exists(&waiting())? {
            // Both names after a crash: the move was durable where it arrived, not where it left.
            match disk.exists(CONTROLLER_DIR)? {
                true => disk.remove_dir_all(&waiting())?,
                false => disk.rename(&waiting(), CONTROLLER_DIR)?,
            }
            disk.sync_dir("")?;
            disk.sync_dir(KAFKA_METADATA_DIR)?;
        }
        disk.rename(KAFKA_METADATA_DIR, KAFKA_METADATA_KEPT)?;
        disk.sync_dir("")?;
        Ok(true)
    };
    finish().map_err(|error| LayoutError::io(KAFKA_METADATA_DIR, error))
}
