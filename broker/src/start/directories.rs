//! The directories of a broker as a start finds them: locked, checked, and known to be ours.
//!
//! The directory of the metadata log must work. Of the log directories one must; another one that
//! is missing or broken is offline until the next start. One that belongs to somebody else is not
//! broken but a mistake: then nothing starts. A directory without an identity becomes ours, unless
//! it had one at the last start: then its file system is probably not mounted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_storage::disk::{Budget, Disk, MemoryDisk};
use ottla_storage::layout::{
    self, DirectoryId, KnownDirectory, LayoutError, NewIds, OpenError, Wanted, is_somebodys,
};
use rand::rngs::StdRng;
use uuid::Uuid;

use super::{Images, MAPS_MAX, StartError, Storage, descriptors};
use crate::boot::{self, Home};
use crate::config::Config;
use crate::log_dirs::LogDir;

/// The directories, or the memory that stands for them.
pub(super) struct Directories {
    pub(super) home: Home,
    /// Of directories on disk.
    pub(super) budget: Option<Arc<Budget>>,
    pub(super) locked: Vec<layout::LogDir>,
}

impl Directories {
    pub(super) fn open(
        config: &Config,
        storage: Storage,
        images: Images,
        chance: &mut StdRng,
    ) -> Result<Directories, StartError> {
        match storage {
            Storage::Memory => {
                let disk = Arc::new(MemoryDisk::volatile());
                let (wanted, new) = (boot::wanted(config), boot::new_ids(chance));
                let (identity, _) = layout::prepare(&*disk, &wanted, &new)?;
                Ok(Directories {
                    home: Home {
                        images,
                        ..Home::single("memory", disk, &identity)
                    },
                    budget: None,
                    locked: Vec::new(),
                })
            }
            Storage::Disk => on_disk(config, images, chance),
        }
    }
}

fn on_disk(
    config: &Config,
    images: Images,
    chance: &mut StdRng,
) -> Result<Directories, StartError> {
    let budget = Budget::new(descriptors::files_max(config), MAPS_MAX);
    let metadata_path = config.metadata_dir().ok_or(StartError::NoLogDir)?;
    let mut wanted = boot::wanted(config);
    // A broker that has data has metadata: without it, it would begin a new cluster.
    let elsewhere = config
        .log_dirs
        .iter()
        .find(|dir| *dir != metadata_path && is_somebodys(dir));
    wanted.may_be_new = elsewhere.is_none();
    let metadata = layout::open(metadata_path, &budget, &wanted, &boot::new_ids(chance));
    let metadata = metadata.map_err(|error| match (&error.source, elsewhere) {
        (LayoutError::Empty, Some(other)) => StartError::MetadataElsewhere {
            metadata: metadata_path.clone(),
            other: other.clone(),
        },
        _ => error.into(),
    })?;
    wanted.cluster_id = Some(metadata.identity.cluster_id.clone());
    let known = layout::read_directories(&*metadata.disk).map_err(|source| OpenError {
        path: metadata_path.clone(),
        source,
    })?;
    let mut opened = Opening {
        budget: Arc::clone(&budget),
        wanted,
        known,
        log_dirs: Vec::new(),
        locked: Vec::new(),
    };
    for path in &config.log_dirs {
        if path == metadata_path {
            opened.add(path, &metadata).set_has_metadata();
        } else {
            opened.open(path, &boot::new_ids(chance))?;
        }
    }
    opened.remember(&metadata)?;
    let home = Home {
        metadata: Arc::clone(&metadata.disk) as Arc<dyn Disk>,
        cluster_id: metadata.identity.cluster_id.clone(),
        log_dirs: opened.log_dirs,
        images,
    };
    opened.locked.push(metadata);
    Ok(Directories {
        home,
        budget: Some(budget),
        locked: opened.locked,
    })
}

/// The log directories that are open so far.
struct Opening {
    budget: Arc<Budget>,
    wanted: Wanted,
    known: Vec<KnownDirectory>,
    log_dirs: Vec<Arc<LogDir>>,
    locked: Vec<layout::LogDir>,
}

impl Opening {
    fn add(&mut self, path: &Path, opened: &layout::LogDir) -> &LogDir {
        let disk = Arc::clone(&opened.disk) as Arc<dyn Disk>;
        let dir = LogDir::new(shown(path), opened.identity.directory_id, disk);
        self.log_dirs.push(Arc::new(dir));
        &self.log_dirs[self.log_dirs.len() - 1]
    }

    fn open(&mut self, path: &Path, new: &NewIds) -> Result<(), StartError> {
        let before = self.known.iter().find(|known| *known.path == *shown(path));
        let before = before.map(|known| known.id);
        // Its file system may also have moved to another path.
        let moved = before.is_some_and(|id| self.log_dirs.iter().any(|dir| dir.id == id));
        self.wanted.may_be_new = before.is_none() || moved;
        match layout::open(path, &self.budget, &self.wanted, new) {
            Ok(opened) => {
                let id = opened.identity.directory_id;
                if let Some(twin) = self.log_dirs.iter().find(|dir| dir.id == id) {
                    return Err(StartError::SameDirectory {
                        first: PathBuf::from(&*twin.path),
                        second: path.to_owned(),
                        id,
                    });
                }
                self.add(path, &opened);
                self.locked.push(opened);
            }
            Err(error) if is_broken(&error.source) => self.add_broken(path, before, &error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn add_broken(&mut self, path: &Path, id: Option<DirectoryId>, error: &OpenError) {
        let why = match (&error.source, id) {
            (LayoutError::Empty, Some(id)) => format!(
                "it is empty, and at the last start log directory {id} was there: is its file \
                 system mounted? To begin with an empty one, start once without it"
            ),
            (other, _) => other.to_string(),
        };
        tracing::error!(
            log_dir = %path.display(), error = why,
            "a log directory cannot be used: its partitions are offline, the others are served"
        );
        let id = id.unwrap_or(DirectoryId(Uuid::nil()));
        let dir = LogDir::absent(shown(path), id, why);
        self.log_dirs.push(Arc::new(dir));
    }

    /// One log directory must work; for the next start it is noted which ones there are.
    fn remember(&self, metadata: &layout::LogDir) -> Result<(), StartError> {
        if let Some(dir) = self.log_dirs.first()
            && self.log_dirs.iter().all(|dir| !dir.is_online())
        {
            return Err(StartError::NoUsableLogDir {
                path: PathBuf::from(&*dir.path),
                why: dir.failure().unwrap_or_default().to_owned(),
            });
        }
        let now = self.log_dirs.iter().filter(|dir| !dir.id.0.is_nil());
        let now: Vec<_> = now
            .map(|dir| KnownDirectory {
                id: dir.id,
                path: dir.path.to_string(),
            })
            .collect();
        let alone = now.len() < 2 && self.known.is_empty();
        if alone || now == self.known {
            return Ok(());
        }
        layout::write_directories(&*metadata.disk, &now).map_err(|source| {
            let path = metadata.path.clone();
            OpenError { path, source }.into()
        })
    }
}

/// What may happen to a directory that is ours: it does not work, or it is not there.
fn is_broken(error: &LayoutError) -> bool {
    matches!(
        error,
        LayoutError::Io { .. }
            | LayoutError::NotWritable(_)
            | LayoutError::Full(_)
            | LayoutError::Empty
    )
}

fn shown(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy().as_ref())
}
