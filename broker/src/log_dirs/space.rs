//! How much room a directory's disk has, and what follows: below the warning mark somebody is told
//! and retention hurries, below the reject mark clients' records and new topics are refused. What
//! lies below that mark is for the broker's own work: offset commits, checkpoints, deletions.
//!
//! Looked at every second; between two looks what was appended counts as gone, so that a fast
//! writer does not run past the mark. States end a little above the mark where they began, so
//! that they do not flutter. Deliberately absent: clocks, and what is done about it.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use ottla_storage::disk::Disk;

const WARNING_PERCENT: u64 = 10;
const WARNING_BYTES_MAX: u64 = 10 << 30;
const REJECT_PERCENT: u64 = 3;
const REJECT_BYTES_MAX: u64 = 1 << 30;
/// A state ends when this part of its mark is free in addition.
const RETURN_PART: u64 = 8;
const PROBE: &str = ".ottla-probe";

/// Free bytes below which something happens; `None`: derived from the size of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub warning_bytes: Option<u64>,
    pub reject_bytes: Option<u64>,
}

impl Marks {
    fn warning(&self, total_bytes: u64) -> u64 {
        let derived = || (total_bytes / 100 * WARNING_PERCENT).min(WARNING_BYTES_MAX);
        self.warning_bytes.unwrap_or_else(derived)
    }

    fn reject(&self, total_bytes: u64) -> u64 {
        let derived = || (total_bytes / 100 * REJECT_PERCENT).min(REJECT_BYTES_MAX);
        self.reject_bytes.unwrap_or_else(derived)
    }
}

/// The state of a directory that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Room {
    Ample = 0,
    /// Below the warning mark.
    Low = 1,
    /// Below the reject mark.
    Full = 2,
    /// The file system takes no changes.
    ReadOnly = 3,
}

impl Room {
    pub fn name(self) -> &'static str {
        match self {
            Room::Ample => "online",
            Room::Low => "low",
            Room::Full => "full",
            Room::ReadOnly => "read-only",
        }
    }

    pub fn takes_records(self) -> bool {
        matches!(self, Room::Ample | Room::Low)
    }

    fn from_number(number: u8) -> Room {
        match number {
            0 => Room::Ample,
            1 => Room::Low,
            2 => Room::Full,
            _ => Room::ReadOnly,
        }
    }

    /// The state that follows from what is free.
    fn next(self, free_bytes: u64, warning_bytes: u64, reject_bytes: u64) -> Room {
        let below = |mark: u64, within: bool| {
            let end = if within { mark / RETURN_PART } else { 0 };
            free_bytes < mark.saturating_add(end)
        };
        if below(reject_bytes, self == Room::Full) {
            Room::Full
        } else if below(warning_bytes, self != Room::Ample) {
            Room::Low
        } else {
            Room::Ample
        }
    }
}

/// A directory takes no records of clients now, or no new partitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error(
        "the disk of log directory {path} is full: {free_bytes} bytes are free, and records are \
         refused below {reject_bytes}"
    )]
    Full {
        path: Arc<str>,
        free_bytes: u64,
        reject_bytes: u64,
    },
    #[error("the file system of log directory {path} is read-only")]
    ReadOnly { path: Arc<str> },
    /// New partitions only.
    #[error("all log directories are cordoned (cordoned.log.dirs)")]
    Cordoned,
}

/// What is known of a directory's disk.
#[derive(Debug)]
pub struct Space {
    room: AtomicU8,
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    reject_bytes: AtomicU64,
    /// Appended since the last look.
    taken_bytes: AtomicU64,
}

impl Default for Space {
    /// Before the first look there is room.
    fn default() -> Space {
        Space {
            room: AtomicU8::new(Room::Ample as u8),
            free_bytes: AtomicU64::new(u64::MAX),
            total_bytes: AtomicU64::new(u64::MAX),
            reject_bytes: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
        }
    }
}

impl Space {
    pub fn room(&self) -> Room {
        Room::from_number(self.room.load(Relaxed))
    }

    /// As of the last look.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Relaxed)
    }

    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Relaxed)
    }

    pub(super) fn reject_bytes(&self) -> u64 {
        self.reject_bytes.load(Relaxed)
    }

    /// Whether so many bytes of a client may be written.
    pub(super) fn admits(&self, bytes: u64) -> bool {
        let gone = self.taken_bytes.load(Relaxed).saturating_add(bytes);
        let left = self.free_bytes().saturating_sub(gone);
        self.room().takes_records() && left >= self.reject_bytes()
    }

    /// So many bytes were written.
    pub fn took(&self, bytes: u64) {
        self.taken_bytes.fetch_add(bytes, Relaxed);
    }

    /// A write was refused because of it; the next look tries a write.
    pub fn set_read_only(&self) {
        self.room.store(Room::ReadOnly as u8, Relaxed);
    }

    /// Looks at the disk; answers the state before and now.
    pub fn look(&self, disk: &dyn Disk, marks: &Marks) -> io::Result<(Room, Room)> {
        let before = self.room();
        self.taken_bytes.store(0, Relaxed);
        let (free, total) = (disk.free_bytes()?, disk.total_bytes()?);
        let (warning, reject) = (marks.warning(total), marks.reject(total));
        self.free_bytes.store(free, Relaxed);
        self.total_bytes.store(total, Relaxed);
        self.reject_bytes.store(reject, Relaxed);
        let now = match before {
            Room::ReadOnly if is_read_only(disk) => Room::ReadOnly,
            before => before.next(free, warning, reject),
        };
        self.room.store(now as u8, Relaxed);
        Ok((before, now))
    }
}

fn is_read_only(disk: &dyn Disk) -> bool {
    let refused = probe(disk).err().map(|error| error.kind());
    refused == Some(ErrorKind::ReadOnlyFilesystem)
}

/// Whether the directory takes a small file and syncs it.
pub(super) fn probe(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(PROBE) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => other?,
    }
    let file = disk.create(PROBE)?;
    let tried = file
        .write_at(0, &[IoSlice::new(b"?")])
        .and_then(|()| file.sync_data());
    let removed = disk.remove(PROBE);
    tried.and(removed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ottla_storage::disk::MemoryDisk;

    use super::*;

    #[test]
    fn states_begin_at_their_marks_and_end_a_little_above() {
        let mut room = Room::Ample;
        let mut step = |free| {
            room = room.next(free, 800, 80);
            room
        };
        assert_eq!(step(800), Room::Ample);
        assert_eq!(step(799), Room::Low);
        assert_eq!(step(899), Room::Low, "not yet");
        assert_eq!(step(900), Room::Ample);
        assert_eq!(step(79), Room::Full);
        assert_eq!(step(89), Room::Full);
        assert_eq!(step(90), Room::Low);
        assert_eq!(step(80), Room::Low);
        assert_eq!(step(10_000), Room::Ample);
        assert_eq!(room.next(5, 0, 0), Room::Ample, "marks of 0 are none");
    }

    #[test]
    fn derived_marks_are_a_part_of_the_disk_and_bounded() {
        let derived = Marks::default();
        assert_eq!((derived.warning(1_000), derived.reject(1_000)), (100, 30));
        let huge = 1 << 50;
        assert_eq!(derived.warning(huge), WARNING_BYTES_MAX);
        assert_eq!(derived.reject(huge), REJECT_BYTES_MAX);
        let set = Marks {
            warning_bytes: Some(7),
            reject_bytes: Some(0),
        };
        assert_eq!((set.warning(huge), set.reject(huge)), (7, 0));
    }

    #[test]
    fn what_was_appended_since_the_last_look_counts() {
        let disk = MemoryDisk::new();
        disk.set_capacity_bytes(Some(10_000));
        let space = Space::default();
        assert!(space.admits(u64::MAX / 2), "nothing is known yet");
        let marks = Marks {
            warning_bytes: Some(2_000),
            reject_bytes: Some(1_000),
        };
        assert_eq!(
            space.look(&disk, &marks).unwrap(),
            (Room::Ample, Room::Ample)
        );
        assert!(space.admits(9_000) && !space.admits(9_001));
        space.took(8_500);
        assert!(space.admits(500) && !space.admits(501));
        space.look(&disk, &marks).unwrap();
        assert!(space.admits(9_000), "it went elsewhere");
        disk.set_capacity_bytes(Some(999));
        assert_eq!(
            space.look(&disk, &marks).unwrap(),
            (Room::Ample, Room::Full)
        );
        assert!(!space.admits(0));
    }

    #[test]
    fn a_read_only_disk_is_tried_until_it_takes_a_write() {
        let disk = MemoryDisk::new();
        let (space, marks) = (Space::default(), Marks::default());
        disk.set_read_only(true);
        space.set_read_only();
        assert!(!space.admits(1));
        let (_, now) = space.look(&disk, &marks).unwrap();
        assert_eq!(now, Room::ReadOnly);
        disk.set_read_only(false);
        let (before, now) = space.look(&disk, &marks).unwrap();
        assert_eq!((before, now), (Room::ReadOnly, Room::Ample));
        assert!(space.admits(1) && !disk.exists(PROBE).unwrap());
    }
}
