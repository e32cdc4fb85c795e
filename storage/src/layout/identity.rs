//! Whose directory it is: `meta.properties` and `ottla.format`, and opening a directory by them.
//!
//! The stamp is written before the identity. So a directory with the stamp alone is ours and
//! unfinished, and one with an identity alone is Kafka's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, TopicId};
use uuid::Uuid;

use super::adopt::finish_adoption;
use super::properties::{self, Properties};
use super::{FORMAT_STAMP, FORMAT_VERSION, LayoutError, META_PROPERTIES, read_small};
use crate::disk::{Budget, DirectoryLock, Disk, RealDisk, write_file_atomically};

/// The identity of one log directory; printed as Kafka prints its ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub Uuid);

impl DirectoryId {
    pub fn parse(text: &str) -> Option<DirectoryId> {
        TopicId::parse(text).map(|id| DirectoryId(id.0))
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TopicId(self.0).fmt(f)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectoryId({self})")
    }
}

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: BrokerId,
    pub directory_id: DirectoryId,
}

/// What the configuration says about whose directory it must be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub node_id: BrokerId,
    /// `None`: whatever the directory says.
    pub cluster_id: Option<String>,
    /// A directory that nobody owns becomes ours; otherwise it is refused.
    pub may_be_new: bool,
}

/// The ids a fresh directory gets (chance is the caller's). A wanted cluster id goes first.
#[derive(Clone, Debug)]
pub struct NewIds {
    pub cluster_id: String,
    pub directory_id: DirectoryId,
}

/// A log directory, locked and known to be ours.
pub struct LogDir {
    pub path: PathBuf,
    pub disk: Arc<RealDisk>,
    pub identity: Identity,
    /// Nothing was here before.
    pub fresh: bool,
    _lock: DirectoryLock,
}

#[derive(Debug, thiserror::Error)]
#[error("log directory {}: {source}", .path.display())]
pub struct OpenError {
    pub path: PathBuf,
    pub source: LayoutError,
}

/// Creates the directory if it is missing, locks it, and checks that it is ours.
pub fn open(
    path: &Path,
    budget: &Arc<Budget>,
    wanted: &Wanted,
    new: &NewIds,
) -> Result<LogDir, OpenError> {
    let open = || {
        let disk = RealDisk::open(path, budget).map_err(|error| LayoutError::io(".", error))?;
        let lock = DirectoryLock::acquire(path).map_err(|error| match error {
            crate::disk::LockError::Io(error) => LayoutError::io(".lock", error),
            held => LayoutError::Locked(held),
        })?;
        let (identity, fresh) = prepare(&disk, wanted, new)?;
        let disk = Arc::new(disk);
        Ok(LogDir {
            path: path.to_owned(),
            disk,
            identity,
            fresh,
            _lock: lock,
        })
    };
    open().map_err(|source| OpenError {
        path: path.to_owned(),
        source,
    })
}

/// The identity of a directory, given to it now if it had none; whether that was so.
pub fn prepare(
    disk: &dyn Disk,
    wanted: &Wanted,
    new: &NewIds,
) -> Result<(Identity, bool), LayoutError> {
    let stamped = read_stamp(disk)?;
    match (stamped, read_identity(disk)?) {
        (true, Some(identity)) => {
            check(&identity, wanted)?;
            finish_adoption(disk)?;
            Ok((identity, false))
        }
        (false, Some(_)) => Err(LayoutError::KafkaDirectory),
        (_, None) if !wanted.may_be_new => Err(LayoutError::Empty),
        (_, None) => {
            let identity = Identity {
                cluster_id: wanted
                    .cluster_id
                    .as_ref()
                    .unwrap_or(&new.cluster_id)
                    .clone(),
                node_id: wanted.node_id,
                directory_id: new.directory_id,
            };
            write(disk, &identity)?;
            Ok((identity, true))
        }
    }
}

fn check(found: &Identity, wanted: &Wanted) -> Result<(), LayoutError> {
    if let Some(cluster_id) = &wanted.cluster_id
        && *cluster_id != found.cluster_id
    {
        let (found, wanted) = (found.cluster_id.clone(), cluster_id.clone());
        return Err(LayoutError::OtherCluster { found, wanted });
    }
    if found.node_id != wanted.node_id {
        let (found, wanted) = (found.node_id.0, wanted.node_id.0);
        return Err(LayoutError::OtherNode { found, wanted });
    }
    Ok(())
}

/// Whether a directory on this machine has an identity already; nothing is created or locked.
/// One that cannot be looked at has none that we could see.
pub fn is_somebodys(path: &Path) -> bool {
    path.join(META_PROPERTIES).exists()
}

/// Whether the directory bears our stamp, of a version we know.
pub(super) fn read_stamp(disk: &dyn Disk) -> Result<bool, LayoutError> {
    let Some(content) = read_small(disk, FORMAT_STAMP)? else {
        return Ok(false);
    };
    let properties = Properties::parse(FORMAT_STAMP, &content)?;
    let version = properties.required("version", "\"version\" is missing")?;
    match version.parse() {
        Ok(FORMAT_VERSION) => Ok(true),
        Ok(found) if found > FORMAT_VERSION => Err(LayoutError::NewerFormat { found }),
        _ => Err(properties.malformed("version", "not a version")),
    }
}

pub(super) fn read_identity(disk: &dyn Disk) -> Result<Option<Identity>, LayoutError> {
    let Some(content) = read_small(disk, META_PROPERTIES)? else {
        return Ok(None);
    };
    let properties = Properties::parse(META_PROPERTIES, &content)?;
    if properties.required("version", "\"version\" is missing")? != "1" {
        return Err(properties.malformed("version", "only version 1 is known"));
    }
    let cluster_id = properties
        .required("cluster.id", "\"cluster.id\" is missing")?
        .to_owned();
    let node_id = properties.required("node.id", "\"node.id\" is missing")?;
    let node_id = node_id.parse().ok().filter(|id| *id >= 0).map(BrokerId);
    let directory_id = properties.required("directory.id", "\"directory.id\" is missing")?;
    Ok(Some(Identity {
        cluster_id,
        node_id: node_id.ok_or_else(|| properties.malformed("node.id", "not a node id"))?,
        directory_id: DirectoryId::parse(directory_id)
            .ok_or_else(|| properties.malformed("directory.id", "not a directory id"))?,
    }))
}

fn put(
    disk: &dyn Disk,
    file: &str,
    comment: &str,
    entries: &[(&str, &str)],
) -> Result<(), LayoutError> {
    write_file_atomically(disk, file, properties::format(comment, entries).as_bytes())
        .map_err(|error| LayoutError::io(file, error))
}

pub(super) fn write_stamp(disk: &dyn Disk) -> Result<(), LayoutError> {
    let comment = "The format of this log directory. Do not edit.";
    put(
        disk,
        FORMAT_STAMP,
        comment,
        &[("version", &FORMAT_VERSION.to_string())],
    )
}

fn write(disk: &dyn Disk, identity: &Identity) -> Result<(), LayoutError> {
    write_stamp(disk)?;
    let entries = [
        ("version", "1"),
        ("cluster.id", &identity.cluster_id),
        ("node.id", &identity.node_id.to_string()),
        ("directory.id", &identity.directory_id.to_string()),
    ];
    let comment = "Whose log directory this is. Do not edit.";
    put(disk, META_PROPERTIES, comment, &entries)
}
