//! One segment: a stretch of the log in one file, with its indexes.
//!
//! Owns the end position of its data (the file may have reserved space behind it, and after a
//! failed write also bytes), the handle, and the indexes. Handle and indexes come into being on
//! first use and are released when nobody uses them; those of a segment that is appended to stay.
//! Deliberately absent: decisions (when to roll, what to truncate) and index files being written.

use std::io;
use std::sync::{Arc, OnceLock};

use ottla_protocol::batch::BatchHeader;
use ottla_protocol::types::Offset;

use super::error::LogError;
use super::index::{self, OffsetEntry, SegmentIndex, TimeEntry};
use super::scan::{Found, LOOKUP_BYTES, Scan, ScanError, WALK_BYTES, Waits};
use crate::disk::{Disk, DiskFile, read_file};
use crate::layout::SegmentFile;

/// What a segment has beside its records.
pub(crate) const INDEX_FILES: [SegmentFile; 3] = [
    SegmentFile::OffsetIndex,
    SegmentFile::TimeIndex,
    SegmentFile::TransactionIndex,
];

/// Nothing is reserved for a segment smaller than this, so that small partitions stay small.
const PREALLOCATE_FROM_BYTES: u64 = 64 << 10;
/// Space is reserved in steps that double up to this.
const PREALLOCATE_STEP_BYTES: u64 = 16 << 20;
/// An index of so few entries is made again from the log when it is wanted, rather than written
/// because nobody uses it.
const REBUILT_ENTRIES_MAX: usize = 64;
/// No index file of ours or of Kafka's is larger; what is, is not read.
const INDEX_FILE_BYTES_MAX: u64 = 256 << 20;

/// `DIR/00000000000000000042.log`
pub(crate) fn path(dir: &str, offset: Offset, file: SegmentFile) -> String {
    format!("{dir}/{}", file.name(offset))
}

pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    /// Where the data ends.
    pub(crate) size_bytes: u32,
    pub(crate) created_ms: i64,
    /// The first batch's maximum timestamp, once known.
    pub(crate) first_timestamp: Option<i64>,
    /// The largest timestamp of a sealed segment, once somebody asked; -1: no record has one.
    sealed_largest: Option<i64>,
    /// What the index knew when it was released; the files of a segment that is appended to may
    /// not know it yet.
    released_largest: Option<TimeEntry>,
    reserved_bytes: u64,
    /// Zeros are written up to here; 0: none behind the data.
    zeros_end: u64,
    /// The file has a passing name: the handle must stay.
    in_swap: bool,
    /// The index was released and its files do not hold it.
    unwritten: bool,
    /// A sealed segment, once somebody asked, without aborted transactions.
    without_aborted: OnceLock<bool>,
    file: OnceLock<Arc<dyn DiskFile>>,
    // Boxed: a log of many sealed segments keeps this small.
    index: OnceLock<Box<SegmentIndex>>,
}

impl Segment {
    /// A segment that is in the directory already.
    pub(crate) fn existing(base_offset: Offset, size_bytes: u32, now_ms: i64) -> Segment {
        Segment {
            base_offset,
            size_bytes,
            created_ms: now_ms,
            first_timestamp: None,
            sealed_largest: None,
            released_largest: None,
            reserved_bytes: 0,
            zeros_end: 0,
            in_swap: false,
            unwritten: false,
            without_aborted: OnceLock::new(),
            file: OnceLock::new(),
            index: OnceLock::new(),
        }
    }

    /// Creates the file of a new, empty segment.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &str,
        base_offset: Offset,
        now_ms: i64,
    ) -> Result<Segment, LogError> {
        let path = path(dir, base_offset, SegmentFile::Log);
        let file = disk
            .create(&path)
            .map_err(|error| LogError::io(path, error))?;
        let segment = Segment::existing(base_offset, 0, now_ms);
        let _ = segment.file.set(file);
        let _ = segment.index.set(Box::new(SegmentIndex::empty()));
        Ok(segment)
    }

    /// The output of a compaction, which does not have its final name yet.
    pub(crate) fn rewritten(
        base_offset: Offset,
        size_bytes: u32,
        created_ms: i64,
        (file, index): (Arc<dyn DiskFile>, SegmentIndex),
    ) -> Segment {
        Segment {
            in_swap: true,
            file: OnceLock::from(file),
            index: OnceLock::from(Box::new(index)),
            ..Segment::existing(base_offset, size_bytes, created_ms)
        }
    }

    /// What a reader without the log's lock needs of it: from the index, if that is loaded, only
    /// the entries of `offset` and of the bytes after it.
    pub(crate) fn excerpt(&self, offset: Offset, bytes: u64) -> Segment {
        let index = self.loaded_index();
        let index = index.map(|index| Box::new(index.excerpt(self.relative(offset), bytes)));
        Segment {
            index: index.map_or_else(OnceLock::new, OnceLock::from),
            ..self.without_index()
        }
    }

    /// The same without an index.
    pub(crate) fn without_index(&self) -> Segment {
        Segment {
            in_swap: self.in_swap,
            unwritten: self.unwritten,
            released_largest: self.released_largest,
            file: self
                .file
                .get()
                .cloned()
                .map_or_else(OnceLock::new, OnceLock::from),
            ..Segment::existing(self.base_offset, self.size_bytes, self.created_ms)
        }
    }

    /// Takes over what a reader without the log's lock has found out about the same bytes.
    pub(crate) fn adopt(&self, excerpt: Segment, partial_index: bool) {
        if excerpt.size_bytes != self.size_bytes || excerpt.unwritten != self.unwritten {
            return;
        }
        let Segment {
            file,
            index,
            without_aborted,
            ..
        } = excerpt;
        if let Some(file) = file.into_inner() {
            let _ = self.file.set(file);
        }
        if let Some(index) = index.into_inner().filter(|_| !partial_index) {
            let _ = self.index.set(index);
        }
        if let Some(without) = without_aborted.into_inner() {
            let _ = self.without_aborted.set(without);
        }
    }

    /// Whether it is known which aborted transactions it holds; `None`: they are to be looked up
    /// in its index.
    pub(crate) fn known_without_aborted(&self) -> Option<bool> {
        self.without_aborted.get().copied()
    }

    pub(crate) fn set_final_name(&mut self) {
        self.in_swap = false;
    }

    pub(crate) fn relative(&self, offset: Offset) -> u32 {
        let relative = (offset.0 - self.base_offset.0).clamp(0, i64::from(u32::MAX));
        relative as u32
    }

    pub(crate) fn path(&self, dir: &str) -> String {
        path(dir, self.base_offset, SegmentFile::Log)
    }

    pub(crate) fn file(&self, disk: &dyn Disk, dir: &str) -> Result<&Arc<dyn DiskFile>, LogError> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let path = self.path(dir);
        let file = disk
            .open(&path)
            .map_err(|error| LogError::io(path, error))?;
        Ok(self.file.get_or_init(|| file))
    }

    /// The indexes, from their files, or from the log when these are missing or damaged.
    pub(crate) fn index(
        &self,
        disk: &dyn Disk,
        dir: &str,
        interval_bytes: u32,
    ) -> Result<&SegmentIndex, LogError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let loaded = match self.unwritten {
            true => None,
            false => self.load_index(disk, dir),
        };
        let mut index = match loaded {
            Some(index) => index,
            None => self.rebuild_index(disk, dir, interval_bytes)?,
        };
        if self.unwritten {
            // Such an index was released with the knowledge that there are none.
            index.aborted = Vec::new();
            index.aborted_known = true;
        }
        index.largest = self.released_largest.or(index.largest);
        Ok(self.index.get_or_init(|| Box::new(index)))
    }

    pub(crate) fn loaded_index(&self) -> Option<&SegmentIndex> {
        self.index.get().map(|index| &**index)
    }

    pub(crate) fn loaded_index_mut(&mut self) -> Option<&mut SegmentIndex> {
        self.index.get_mut().map(|index| &mut **index)
    }

    pub(crate) fn set_index(&mut self, index: SegmentIndex) {
        self.index = OnceLock::from(Box::new(index));
    }

    /// What the index files say, unless one is missing, damaged or from another time. The file
    /// of aborted transactions exists only if there are any.
    pub(crate) fn load_index(&self, disk: &dyn Disk, dir: &str) -> Option<SegmentIndex> {
        let offsets = self
            .read_index_file(disk, dir, SegmentFile::OffsetIndex)
            .ok()?;
        let offsets = index::decode_offsets(&offsets, self.size_bytes)?;
        let times = self
            .read_index_file(disk, dir, SegmentFile::TimeIndex)
            .ok()?;
        let times = index::decode_times(&times)?;
        let aborted = match self.read_index_file(disk, dir, SegmentFile::TransactionIndex) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => index::decode_aborted(&bytes.ok()?, self.base_offset)?,
        };
        let persisted = index::Persisted {
            sound: true,
            offsets: offsets.len(),
            times: times.len(),
            aborted: aborted.len(),
            at_bytes: self.size_bytes,
        };
        let largest = times.last().copied();
        Some(SegmentIndex {
            offsets,
            times,
            aborted,
            aborted_known: true,
            largest,
            persisted,
        })
    }

    fn read_index_file(
        &self,
        disk: &dyn Disk,
        dir: &str,
        kind: SegmentFile,
    ) -> io::Result<Vec<u8>> {
        read_file(
            disk,
            &path(dir, self.base_offset, kind),
            INDEX_FILE_BYTES_MAX,
        )
    }

    /// Offset and time index from the batch headers, also of those behind what cannot be read: the
    /// read that needs those bytes will say so. Aborted transactions are the log's business, but
    /// for a sound file of them.
    fn rebuild_index(
        &self,
        disk: &dyn Disk,
        dir: &str,
        interval_bytes: u32,
    ) -> Result<SegmentIndex, LogError> {
        let mut index = SegmentIndex::empty();
        let file = self.file(disk, dir)?;
        let mut buffer = vec![0; WALK_BYTES];
        let mut scan = self.scan(&**file, 0, &mut buffer);
        loop {
            match scan.next() {
                Ok(Some(found)) => self.note(&mut index, &found, interval_bytes),
                Ok(None) => break,
                Err(ScanError::Io(error)) => return Err(LogError::io(self.path(dir), error)),
                Err(ScanError::Bad { position, .. }) => {
                    let next = scan.find_valid(position + 1);
                    let next = next.map_err(|error| LogError::io(self.path(dir), error))?;
                    let Some(found) = next else { break };
                    scan.position = found.position;
                }
            }
        }
        index.close_times();
        let whole = disk.exists(&path(dir, self.base_offset, SegmentFile::OffsetIndex));
        // The offset index is written after it: without one it may be the beginning of a file.
        let aborted = match whole {
            Ok(true) => self.read_index_file(disk, dir, SegmentFile::TransactionIndex),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let aborted = aborted.ok();
        let aborted = aborted.and_then(|bytes| index::decode_aborted(&bytes, self.base_offset));
        index.aborted_known = aborted.is_some();
        index.aborted = aborted.unwrap_or_default();
        Ok(index)
    }

    fn note(&self, index: &mut SegmentIndex, found: &Found, interval_bytes: u32) {
        let last = self.relative(found.header.last_offset());
        index.observe(
            found.position as u32,
            last,
            found.header.max_timestamp,
            interval_bytes,
        );
    }

    pub(crate) fn scan<'a>(
        &self,
        file: &'a dyn DiskFile,
        position: u64,
        buffer: &'a mut [u8],
    ) -> Scan<'a> {
        Scan::new(
            file,
            position,
            u64::from(self.size_bytes),
            self.base_offset,
            buffer,
        )
    }

    /// Records a batch that is in the file now, at the end of what was there before.
    pub(crate) fn observe(&mut self, position: u32, header: &BatchHeader, interval_bytes: u32) {
        let last = self.relative(header.last_offset());
        if position == 0 {
            self.first_timestamp = Some(header.max_timestamp);
        }
        self.size_bytes = self.size_bytes.max(position + header.size_bytes() as u32);
        if let Some(index) = self.index.get_mut() {
            index.observe(position, last, header.max_timestamp, interval_bytes);
        }
    }

    /// The batch that contains `offset`, or the first one after it; `None` beyond the last.
    pub(crate) fn locate(
        &self,
        file: &dyn DiskFile,
        index: &SegmentIndex,
        offset: Offset,
    ) -> Result<Option<Found>, ScanError> {
        self.locate_from(file, index, (offset, 0), Waits::ForDisk)
    }

    /// The same, where a batch below the offset is known to start at `floor`.
    pub(crate) fn locate_from(
        &self,
        file: &dyn DiskFile,
        index: &SegmentIndex,
        (offset, floor): (Offset, u64),
        waits: Waits,
    ) -> Result<Option<Found>, ScanError> {
        let mut buffer = [0; LOOKUP_BYTES];
        let mut scan = self.scan(file, 0, &mut buffer).that(waits);
        let indexed = self.verified(&mut scan, index.entry_at(self.relative(offset)))?;
        scan.position = indexed.max(floor);
        while let Some(found) = scan.next()? {
            if found.header.last_offset() >= offset {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The position an index entry names, if the batch there is the one it speaks of; else 0.
    pub(crate) fn verified(
        &self,
        scan: &mut Scan<'_>,
        entry: Option<OffsetEntry>,
    ) -> io::Result<u64> {
        let Some(entry) = entry else { return Ok(0) };
        let position = u64::from(entry.position);
        let found = scan.parse(position)?;
        let same = found.is_ok_and(|f| self.relative(f.header.last_offset()) == entry.relative);
        Ok(if same { position } else { 0 })
    }

    /// The maximum timestamp of the first batch, from which the segment's age counts.
    pub(crate) fn first_timestamp(&mut self, disk: &dyn Disk, dir: &str) -> Result<i64, LogError> {
        if let Some(known) = self.first_timestamp {
            return Ok(known);
        }
        let file = self.file(disk, dir)?;
        let mut buffer = [0; LOOKUP_BYTES];
        let first = self.scan(&**file, 0, &mut buffer).parse(0);
        let first = first.map_err(|error| LogError::io(self.path(dir), error))?;
        let timestamp = first.map_or(-1, |found| found.header.max_timestamp);
        self.first_timestamp = Some(timestamp);
        Ok(timestamp)
    }

    /// The largest timestamp of a segment that nothing is appended to any more; -1 when no record
    /// has one. Remembered, so that looking at old segments does not load their indexes each time.
    pub(crate) fn sealed_largest(
        &mut self,
        disk: &dyn Disk,
        dir: &str,
        interval_bytes: u32,
    ) -> Result<i64, LogError> {
        if let Some(known) = self.sealed_largest {
            return Ok(known);
        }
        let index = self.index(disk, dir, interval_bytes)?;
        let largest = index.largest.map_or(-1, |entry| entry.timestamp);
        self.sealed_largest = Some(largest);
        Ok(largest)
    }

    /// The segment is appended to again.
    pub(crate) fn forget_sealed(&mut self) {
        self.sealed_largest = None;
        self.without_aborted = OnceLock::new();
    }

    /// Whether a segment that is not appended to holds no marker of an aborted transaction, without
    /// loading its index: a reader may have to ask all segments behind what it reads.
    pub(crate) fn is_without_aborted(&self, disk: &dyn Disk, dir: &str) -> bool {
        *self.without_aborted.get_or_init(|| {
            if let Some(index) = self.loaded_index() {
                return index.aborted_known && index.aborted.is_empty();
            }
            let there = |kind| disk.exists(&path(dir, self.base_offset, kind));
            // Where the offset index is, the others are whole.
            matches!(there(SegmentFile::OffsetIndex), Ok(true))
                && matches!(there(SegmentFile::TransactionIndex), Ok(false))
        })
    }

    /// Makes sure that space up to `end` is reserved, a bounded step ahead.
    pub(crate) fn reserve(
        &mut self,
        end: u64,
        segment_size_bytes: u32,
        whole: bool,
    ) -> io::Result<()> {
        if end <= self.reserved_bytes || (end < PREALLOCATE_FROM_BYTES && !whole) {
            return Ok(());
        }
        let Some(file) = self.file.get() else {
            return Ok(());
        };
        let most = u64::from(segment_size_bytes).max(end);
        let step = self
            .reserved_bytes
            .clamp(4 * PREALLOCATE_FROM_BYTES, PREALLOCATE_STEP_BYTES);
        let target = match whole {
            true => most,
            false => (self.reserved_bytes.max(u64::from(self.size_bytes)) + step).clamp(end, most),
        };
        let reserved = match file.preallocate(target) {
            // A file system that cannot reserve is not an error; the write will tell.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => target,
            // Nearly full: no more than is needed now.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && target > end => {
                file.preallocate(end)?;
                end
            }
            other => other.map(|()| target)?,
        };
        self.reserved_bytes = reserved;
        Ok(())
    }

    /// Gives back what was reserved behind the data.
    pub(crate) fn release_reserve(&mut self) -> io::Result<()> {
        if self.reserved_bytes > u64::from(self.size_bytes)
            && let Some(file) = self.file.get()
        {
            file.trim(u64::from(self.size_bytes))?;
        }
        self.reserved_bytes = 0;
        Ok(())
    }

    pub(crate) fn forget_reserve(&mut self) {
        self.reserved_bytes = 0;
        self.zeros_end = 0;
    }

    /// Zeros lie behind the data.
    pub(crate) fn has_zeros(&self) -> bool {
        self.zeros_end > u64::from(self.size_bytes)
    }

    pub(crate) fn zeros_end(&self) -> u64 {
        self.zeros_end.max(u64::from(self.size_bytes))
    }

    pub(crate) fn set_zeros(&mut self, end: u64) {
        self.zeros_end = end;
        // What is written has its space.
        self.reserved_bytes = self.reserved_bytes.max(end);
    }

    /// The handle, if the segment has one.
    pub(crate) fn open_file(&self) -> Option<&Arc<dyn DiskFile>> {
        self.file.get()
    }

    /// Drops what can be loaded again. The index of a sealed segment waits for its files.
    pub(crate) fn release(&mut self, sealed: bool) {
        if !self.in_swap {
            self.file = OnceLock::new();
        }
        let Some(index) = self.index.get() else {
            return;
        };
        let written = index.persisted.covers(index);
        if written || (!sealed && index.is_cheap(REBUILT_ENTRIES_MAX)) {
            self.released_largest = index.largest;
            self.unwritten = !written;
            self.index = OnceLock::new();
        }
    }

    /// The index was released before its files held it.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten && self.index.get().is_none()
    }

    /// The largest timestamp, if that takes no look at a file.
    pub(crate) fn known_largest(&self) -> Option<TimeEntry> {
        match self.index.get() {
            Some(index) => index.largest,
            None => self.released_largest,
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.index.get().map_or(0, |index| index.heap_bytes())
    }
}
