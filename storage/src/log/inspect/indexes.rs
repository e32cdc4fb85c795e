//! Holds the index files of one segment against its batches, in one pass beside the walk.
//!
//! An offset entry must name a batch that starts there and does not start above the entry's
//! offset; a time entry must not be older than what lies below it, and be found in its batch; a
//! file of aborted transactions must name every one whose records and marker are there.

use ottla_protocol::batch::BatchHeader;
use ottla_protocol::types::Offset;

use crate::disk::{Disk, read_file};
use crate::layout::SegmentFile;
use crate::log::index::{self, AbortedTransaction, OffsetEntry, TimeEntry};
use crate::log::segment::path;

const INDEX_FILE_BYTES_MAX: u64 = 256 << 20;

/// One index file: what it says, and how far the walk has come in it.
enum State<T> {
    Missing,
    Refused,
    Entries { entries: Vec<T>, next: usize },
}

pub(super) struct Indexes {
    base: Offset,
    offsets: State<OffsetEntry>,
    times: State<TimeEntry>,
    aborted: State<AbortedTransaction>,
    /// The largest timestamp so far.
    newest: i64,
    wrong_offset: Option<(u64, u64)>,
    wrong_time: Option<(u64, u64)>,
    /// An entry leads to the right place, but to another batch than the log's own lookups want.
    pub(super) inexact: bool,
}

/// What is wrong with an index file, and at which of its bytes.
pub(super) struct Wrong {
    pub(super) kind: SegmentFile,
    pub(super) missing: bool,
    pub(super) bytes: Option<(u64, u64)>,
    pub(super) what: &'static str,
}

impl Indexes {
    pub(super) fn load(disk: &dyn Disk, dir: &str, base: Offset, size_bytes: u32) -> Indexes {
        let read = |kind| read_file(disk, &path(dir, base, kind), INDEX_FILE_BYTES_MAX);
        let offsets = state(read(SegmentFile::OffsetIndex), |bytes| {
            index::decode_offsets(bytes, size_bytes)
        });
        let times = state(read(SegmentFile::TimeIndex), index::decode_times);
        let aborted = state(read(SegmentFile::TransactionIndex), |bytes| {
            index::decode_aborted(bytes, base)
        });
        Indexes {
            base,
            offsets,
            times,
            aborted,
            newest: -1,
            wrong_offset: None,
            wrong_time: None,
            inexact: false,
        }
    }

    pub(super) fn observe(&mut self, position: u64, header: &BatchHeader) {
        let first = (header.base_offset.0 - self.base.0).max(0);
        let last = header.last_offset().0 - self.base.0;
        if let State::Entries { entries, next } = &mut self.offsets {
            while let Some(entry) = entries.get(*next) {
                let here = u64::from(entry.position);
                if here > position {
                    break;
                }
                let leads = here == position && first <= i64::from(entry.relative);
                if !leads {
                    self.wrong_offset.get_or_insert_with(|| place(*next, 8));
                }
                self.inexact |= leads && i64::from(entry.relative) != last;
                *next += 1;
            }
        }
        if let State::Entries { entries, next } = &mut self.times {
            while let Some(entry) = entries.get(*next) {
                let relative = i64::from(entry.relative);
                if relative > last {
                    break;
                }
                let inside = relative >= first && header.max_timestamp >= entry.timestamp;
                if !inside || self.newest > entry.timestamp {
                    self.wrong_time.get_or_insert_with(|| place(*next, 12));
                }
                *next += 1;
            }
        }
        self.newest = self.newest.max(header.max_timestamp);
    }

    /// Entries that lead into damaged bytes are not the index's fault.
    pub(super) fn skip(&mut self, until: u64, until_offset: Offset) {
        if let State::Entries { entries, next } = &mut self.offsets {
            while entries
                .get(*next)
                .is_some_and(|entry| u64::from(entry.position) < until)
            {
                *next += 1;
            }
        }
        let relative = until_offset.0 - self.base.0;
        if let State::Entries { entries, next } = &mut self.times {
            while let Some(entry) = entries.get(*next) {
                if i64::from(entry.relative) >= relative {
                    break;
                }
                self.newest = self.newest.max(entry.timestamp);
                *next += 1;
            }
        }
    }

    /// `aborted`: what the walk found of this segment. `end`: of the segment's offsets.
    pub(super) fn finish(self, aborted: &[AbortedTransaction], end: Offset) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut push = |kind, missing, bytes, what| {
            wrong.push(Wrong {
                kind,
                missing,
                bytes,
                what,
            });
        };
        let kind = SegmentFile::OffsetIndex;
        match self.offsets {
            State::Missing => push(kind, true, None, "the file is missing"),
            State::Refused => push(kind, false, None, "the file breaks the rules of its format"),
            State::Entries { entries, next } => {
                let left = (next < entries.len()).then(|| place(next, 8));
                if let Some(bytes) = self.wrong_offset.or(left) {
                    let what = "an entry does not lead to the batch it names";
                    push(kind, false, Some(bytes), what);
                }
            }
        }
        let kind = SegmentFile::TimeIndex;
        match self.times {
            State::Missing => push(kind, true, None, "the file is missing"),
            State::Refused => push(kind, false, None, "the file breaks the rules of its format"),
            State::Entries { entries, next } => {
                let left = (next < entries.len()).then(|| place(next, 12));
                if let Some(bytes) = self.wrong_time.or(left) {
                    let what = "an entry contradicts the timestamps of the log";
                    push(kind, false, Some(bytes), what);
                }
            }
        }
        if let Some((missing, what)) = compare_aborted(&self.aborted, aborted, end) {
            push(SegmentFile::TransactionIndex, missing, None, what);
        }
        wrong
    }
}

fn compare_aborted(
    file: &State<AbortedTransaction>,
    found: &[AbortedTransaction],
    end: Offset,
) -> Option<(bool, &'static str)> {
    let key = |entry: &AbortedTransaction| (entry.producer_id, entry.first_offset);
    let entries = match file {
        State::Missing if found.is_empty() => return None,
        State::Missing => return Some((true, "aborted transactions are in the log, and no file")),
        State::Refused => return Some((false, "the file breaks the rules of its format")),
        State::Entries { entries, .. } => entries,
    };
    if entries.iter().any(|entry| entry.last_offset >= end) {
        return Some((false, "an entry speaks of another segment"));
    }
    let named = |wanted: &AbortedTransaction| {
        let same = |entry: &&AbortedTransaction| {
            key(entry) == key(wanted) && entry.last_offset == wanted.last_offset
        };
        entries.iter().find(same).is_some()
    };
    match found.iter().all(named) {
        true => None,
        false => Some((false, "an aborted transaction is missing")),
    }
}

fn state<T>(bytes: std::io::Result<Vec<u8>>, decode: impl Fn(&[u8]) -> Option<Vec<T>>) -> State<T> {
    match bytes {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::Missing,
        bytes => match bytes.ok().and_then(|bytes| decode(&bytes)) {
            Some(entries) => State::Entries { entries, next: 0 },
            None => State::Refused,
        },
    }
}

fn place(entry: usize, bytes: u64) -> (u64, u64) {
    let from = entry as u64 * bytes;
    (from, from + bytes)
}
