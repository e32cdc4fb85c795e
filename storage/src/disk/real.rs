//! The disk behind a real file system: rustix calls relative to the descriptor of the root.
//!
//! Owns the registry of files in use, so that one path is one [`RealFile`] however often it is
//! opened, and a renamed directory takes its open files along. Descriptors of idle files are
//! closed when the [`Budget`] asks, or after a while when there are very many of them, and opened
//! again at the next use.
//!
//! The root directory itself may be moved while open; nobody else may write below it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::budget::Budget;
use super::{DirEntry, Disk, DiskFile, NoMemoryToOpen, check_path, is_out_of_descriptors};
use crate::sync::{AtomicU64, Mutex};

mod file;

use file::{OpenFile, RealFile};

/// So many descriptors of a process are not worth closing.
const IDLE_FILES_KEPT: usize = 512;
/// So many idle files are closed when no descriptor is left.
const FILES_CLOSED_IN_NEED: usize = 16;

/// One log directory of a file system.
pub struct RealDisk {
    shared: Arc<Shared>,
}

struct Shared {
    root: OwnedFd,
    root_path: PathBuf,
    budget: Arc<Budget>,
    /// Files by their present path. Held over every change of names, so a file that is being
    /// opened again has the right one.
    registry: Mutex<BTreeMap<String, Weak<RealFile>>>,
    /// The budget's time when idle files were last looked for.
    idle_since: AtomicU64,
}

impl RealDisk {
    /// Opens a log directory, creating it (and its parents) if it is missing.
    pub fn open(root: &Path, budget: &Arc<Budget>) -> io::Result<RealDisk> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(CWD, root, flags, Mode::empty());
        let descriptor = match open() {
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(root)?;
                open()?
            }
            other => other?,
        };
        let shared = Shared {
            root: descriptor,
            root_path: root.to_owned(),
            budget: Arc::clone(budget),
            registry: Mutex::default(),
            idle_since: AtomicU64::new(0),
        };
        Ok(RealDisk {
            shared: Arc::new(shared),
        })
    }

    /// The path the directory was opened by.
    pub fn root(&self) -> &Path {
        &self.shared.root_path
    }

    fn subtree(registry: &BTreeMap<String, Weak<RealFile>>, dir: &str) -> Vec<String> {
        // '0' is the character after '/': the range holds exactly the names below `dir`.
        let (from, to) = (format!("{dir}/"), format!("{dir}0"));
        registry
            .range(from..to)
            .map(|(path, _)| path.clone())
            .collect()
    }
}

impl Shared {
    fn at<'a>(&self, path: &'a str) -> &'a str {
        if path.is_empty() { "." } else { path }
    }

    fn open_file(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        rustix::fs::openat(&self.root, path, flags, mode).map_err(error_of_open)
    }

    fn open_dir(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.root, self.at(path), flags, Mode::empty());
        opened.map_err(error_of_open)
    }

    /// Opens something; where no descriptor is left for it, idle files give theirs. The caller
    /// holds no lock: `open` takes what it needs, and may be called twice.
    fn with_room<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let opened = open();
        let scarce = opened.as_ref().err().is_some_and(is_out_of_descriptors);
        match scarce && self.budget.files.make_room(FILES_CLOSED_IN_NEED) > 0 {
            true => open(),
            false => opened,
        }
    }

    /// Also where no descriptor is left: then with everything else on the file system, through the
    /// one of the root.
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        match self.open_dir(path) {
            Ok(dir) => Ok(rustix::fs::fsync(dir)?),
            Err(error) if is_out_of_descriptors(&error) => {
                // A directory that is not there is an error here as well.
                rustix::fs::statat(&self.root, self.at(path), AtFlags::empty())?;
                Ok(rustix::fs::syncfs(&self.root)?)
            }
            Err(error) => Err(error),
        }
    }
}

fn error_of_open(error: Errno) -> io::Error {
    match error {
        Errno::NOMEM => io::Error::new(ErrorKind::OutOfMemory, NoMemoryToOpen),
        error => error.into(),
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        check_path(path)?;
        self.shared.with_room(|| {
            let file = RealFile::new(&self.shared, path);
            let permit = file.permit();
            let mut registry = self.shared.registry.lock();
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
            let descriptor = self.shared.open_file(path, flags)?;
            file.set_open(OpenFile::new(descriptor, true, permit));
            file.set_synced();
            registry.insert(path.to_owned(), Arc::downgrade(&file));
            Ok(file as Arc<dyn DiskFile>)
        })
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        check_path(path)?;
        let known = |registry: &BTreeMap<String, Weak<RealFile>>| {
            registry.get(path).and_then(Weak::upgrade)
        };
        if let Some(file) = known(&self.shared.registry.lock()) {
            return Ok(file);
        }
        self.shared.with_room(|| {
            let file = RealFile::new(&self.shared, path);
            let permit = file.permit();
            let mut registry = self.shared.registry.lock();
            if let Some(file) = known(&registry) {
                return Ok(file as Arc<dyn DiskFile>);
            }
            file.set_open(OpenFile::open(&self.shared, path, permit)?);
            registry.insert(path.to_owned(), Arc::downgrade(&file));
            Ok(file as Arc<dyn DiskFile>)
        })
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        check_path(path)?;
        let at = self.shared.at(path);
        match rustix::fs::statat(&self.shared.root, at, AtFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        if path.is_empty() {
            return Ok(());
        }
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        match rustix::fs::mkdirat(&self.shared.root, path, mode) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(&self.shared.root, path, AtFlags::empty())?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => Ok(()),
                    _ => Err(Errno::NOTDIR.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        check_path(dir)?;
        let descriptor = self.shared.with_room(|| self.shared.open_dir(dir))?;
        let mut names = Dir::new(descriptor)?;
        let mut entries = Vec::new();
        while let Some(entry) = names.read() {
            let entry = entry?;
            // A name that is not UTF-8 is not ours.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let stat = match rustix::fs::statat(names.fd()?, name, AtFlags::empty()) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue, // removed meanwhile, or a dangling link
                Err(error) => return Err(error.into()),
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let len_bytes = if is_dir {
                0
            } else {
                u64::try_from(stat.st_size).unwrap_or(0)
            };
            entries.push(DirEntry {
                name: name.to_owned(),
                is_dir,
                len_bytes,
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_path(from)?;
        check_path(to)?;
        // Outlives the lock: dropping the last handle of a file takes the registry.
        let mut handles = Vec::new();
        let mut registry = self.shared.registry.lock();
        rustix::fs::renameat(&self.shared.root, from, &self.shared.root, to)?;
        if from == to {
            return Ok(());
        }
        if let Some(replaced) = registry.remove(to).and_then(|file| file.upgrade()) {
            replaced.set_removed();
        }
        let mut moved = RealDisk::subtree(&registry, from);
        moved.push(from.to_owned());
        for path in moved {
            if let Some(file) = registry.remove(&path) {
                let path = format!("{to}{}", &path[from.len()..]);
                if let Some(file) = file.upgrade() {
                    file.set_path(&path);
                    handles.push(file);
                }
                registry.insert(path, file);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        let mut registry = self.shared.registry.lock();
        rustix::fs::unlinkat(&self.shared.root, path, AtFlags::empty())?;
        if let Some(file) = registry.remove(path).and_then(|file| file.upgrade()) {
            file.set_removed();
        }
        Ok(())
    }

    fn remove_dir_all(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        if path.is_empty() {
            return Err(ErrorKind::InvalidInput.into());
        }
        for entry in self.list(path)? {
            let child = format!("{path}/{}", entry.name);
            match entry.is_dir {
                true => self.remove_dir_all(&child)?,
                false => self.remove(&child)?,
            }
        }
        Ok(rustix::fs::unlinkat(
            &self.shared.root,
            path,
            AtFlags::REMOVEDIR,
        )?)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        check_path(path)?;
        self.shared.sync_dir(path)
    }

    /// One call for the whole file system, however many files there are.
    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.shared.root)?)
    }

    fn modified_ms(&self, path: &str) -> io::Result<Option<i64>> {
        check_path(path)?;
        let stat = rustix::fs::statat(&self.shared.root, self.shared.at(path), AtFlags::empty())?;
        let nanoseconds = stat.st_mtime_nsec as i64;
        Ok(Some(stat.st_mtime * 1_000 + nanoseconds / 1_000_000))
    }

    fn set_modified_ms(&self, path: &str, modified_ms: i64) -> io::Result<()> {
        check_path(path)?;
        let time = Timespec {
            tv_sec: modified_ms.div_euclid(1_000),
            tv_nsec: modified_ms.rem_euclid(1_000) * 1_000_000,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        let root = &self.shared.root;
        Ok(rustix::fs::utimensat(root, path, &times, AtFlags::empty())?)
    }

    /// What is written and not synced stays open: closing it would wait for the disk.
    fn close_idle(&self) {
        let budget = &self.shared.budget;
        let since = self.shared.idle_since.swap(budget.files.tick(), Relaxed);
        let mut surplus = budget.open_files().saturating_sub(IDLE_FILES_KEPT);
        if surplus == 0 {
            return;
        }
        // Their locks, and the drop of a last handle, come after the registry's.
        let files: Vec<Arc<RealFile>> = {
            let registry = self.shared.registry.lock();
            registry.values().filter_map(Weak::upgrade).collect()
        };
        for file in files {
            if surplus > 0 && file.close_if_idle(since) {
                surplus -= 1;
            }
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.shared.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.shared.root)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }
}
