//! One round over one log, without its lock: read the dirty part into the offset map, then write
//! group after group anew.
//!
//! Sources are sealed files that nobody changes; if one is gone (retention, truncation, a deleted
//! topic), the round ends. Memory: the map, two buffers, and the largest batch twice.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use ottla_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, RecordBatchView};
use ottla_protocol::record::{RecordError, RecordLimits, Records};
use ottla_protocol::types::Offset;

use super::CompactionError;
use super::offset_map::{KeyHash, OffsetMap};
use super::plan::{Cleanable, Extent, groups};
use super::rewrite::{ActiveProducers, Counts, Decision, Rewrite};
use super::transactions::{Marker, PassedTransactions};
use crate::disk::{Disk, DiskFile, read_file};
use crate::layout::SegmentFile;
use crate::log::checkpoint::{open_or_create, remove_if_there};
use crate::log::error::{Fault, LogError};
use crate::log::index::{self, AbortedTransaction, SegmentIndex};
use crate::log::segment::path;
use crate::log::{Log, control};

/// The suffix of an output that is being written; Kafka's.
pub(super) const CLEANED_SUFFIX: &str = ".cleaned";
/// Batches are found and read through a buffer of at least this size.
const BUFFER_BYTES_MIN: usize = 64 << 10;
const TRANSACTION_INDEX_BYTES_MAX: u64 = 256 << 20;

/// How much a round may use, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// Of the table of keys.
    pub map_memory_bytes: usize,
    pub map_load_factor: f64,
    /// Of the buffers for reading and writing.
    pub io_buffer_bytes: usize,
    pub delete_retention_ms: i64,
    pub now_ms: i64,
    /// Random: keys are hashed with it.
    pub hash_key: (u64, u64),
}

/// Called with bytes that are about to be read or were written: waits as long as it likes, and
/// answers false to end the round.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> bool;

/// What a round did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionStats {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub records_read: u64,
    pub records_kept: u64,
    pub keyless: u64,
    /// Batches that were copied because their records cannot be read.
    pub unreadable: u64,
    /// Keys in the map.
    pub keys: u64,
    /// The map was full before the dirty part was read; another round goes on there.
    pub map_full: bool,
}

/// A segment that is read.
#[derive(Clone, Debug)]
struct Source {
    extent: Extent,
    /// Entries of aborted transactions, if they were in memory.
    aborted: Option<Vec<AbortedTransaction>>,
}

/// A round under way.
pub(super) struct Compaction {
    disk: Arc<dyn Disk>,
    dir: Arc<str>,
    limits: CompactionLimits,
    segment_size_bytes: u32,
    segment_index_bytes: u32,
    index_interval_bytes: u32,
    record_limits: RecordLimits,
    sources: Vec<Source>,
    /// Segments behind: markers of transactions that began in the sources.
    later: Vec<Source>,
    first_dirty: Offset,
    /// Where the round ends; lower once the map is full.
    end_offset: Offset,
    /// Offsets above are not in the map.
    latest: Offset,
    producers: ActiveProducers,
    map: OffsetMap,
    transactions: PassedTransactions,
    groups: std::vec::IntoIter<Range<usize>>,
    pub(super) truncations: u64,
    stats: CompactionStats,
}

/// A group of segments, written anew and synced, and not in the log yet.
pub(super) struct Rewritten {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) extents: Vec<Extent>,
    pub(super) size_bytes: u32,
    pub(super) index: SegmentIndex,
    pub(super) truncations: u64,
}

impl std::fmt::Debug for Rewritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Rewritten({:?} in {} bytes)",
            self.extents, self.size_bytes
        )
    }
}

impl Log {
    /// Takes what a round must know; everything else happens without the log.
    pub(super) fn begin_compaction(
        &mut self,
        cleanable: &Cleanable,
        limits: CompactionLimits,
    ) -> Result<Compaction, LogError> {
        self.check_usable()?;
        let mut all = Vec::with_capacity(self.segments.len());
        for at in 0..self.segments.len() {
            self.know_aborted(at)?;
            let segment = &self.segments[at];
            let aborted = segment.loaded_index().map(|index| index.aborted.clone());
            let extent = Extent {
                base_offset: segment.base_offset,
                end_offset: self.segment_end(at),
                size_bytes: u64::from(segment.size_bytes),
            };
            all.push(Source { extent, aborted });
        }
        let end_offset = cleanable.first_uncleanable;
        let later = all.split_off(all.partition_point(|one| one.extent.end_offset <= end_offset));
        let wanted = (end_offset - cleanable.first_dirty).max(0) as u64;
        Ok(Compaction {
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            segment_size_bytes: self.config.segment_size_bytes,
            segment_index_bytes: self.config.segment_index_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
            record_limits: self.config.record_limits,
            sources: all,
            later,
            first_dirty: cleanable.first_dirty,
            end_offset,
            latest: Offset(end_offset.0 - 1),
            producers: ActiveProducers::of(&self.producers),
            map: OffsetMap::new(
                wanted,
                limits.map_memory_bytes,
                limits.map_load_factor,
                limits.hash_key,
            ),
            limits,
            transactions: PassedTransactions::default(),
            groups: Vec::new().into_iter(),
            truncations: self.truncations,
            stats: CompactionStats::default(),
        })
    }
}

impl Log {
    /// A crash may have left a segment without its indexes: they are made anew.
    pub(in crate::log) fn know_aborted(&mut self, at: usize) -> Result<(), LogError> {
        if self.lacks_index(at)? {
            self.index(at)?;
        }
        let loaded = self.segments[at].loaded_index();
        if loaded.is_none_or(|index| index.aborted_known) {
            return Ok(());
        }
        let aborted = self.aborted_from_log(at)?;
        if let Some(index) = self.segments[at].loaded_index_mut() {
            index.aborted = aborted;
            index.aborted_known = true;
        }
        Ok(())
    }

    fn lacks_index(&self, at: usize) -> Result<bool, LogError> {
        let segment = &self.segments[at];
        if segment.loaded_index().is_some() {
            return Ok(false);
        }
        // It is written last: where it is, a missing file of aborted transactions means none.
        let path = path(&self.dir, segment.base_offset, SegmentFile::OffsetIndex);
        let exists = self.disk.exists(&path);
        exists
            .map(|exists| !exists)
            .map_err(|error| LogError::io(path, error))
    }
}

impl Compaction {
    /// Reads the keys of the dirty part. Once, before anything is rewritten.
    pub(super) fn build_map(&mut self, pace: Pace<'_>) -> Result<(), CompactionError> {
        let aborted = self.aborted_transactions()?;
        let dirty = |entry: &&AbortedTransaction| entry.last_offset >= self.first_dirty;
        let mut passed = PassedTransactions::new(aborted.iter().filter(dirty).copied());
        self.transactions = PassedTransactions::new(aborted.iter().copied());
        let first = self
            .sources
            .partition_point(|source| source.extent.end_offset <= self.first_dirty);
        for at in first..self.sources.len() {
            let mut reader = Reader::open(self, at)?;
            while !self.stats.map_full && reader.advance(pace, &mut self.stats)? {
                let batch = reader.batch()?;
                if batch.last_offset() < self.first_dirty {
                    continue;
                }
                if let Some(last) = self.map_batch(batch, &mut passed, &reader)? {
                    self.latest = last;
                    self.end_offset = last.next();
                    self.stats.map_full = true;
                }
            }
        }
        self.stats.keys = self.map.len() as u64;
        self.plan_groups();
        Ok(())
    }

    /// `Some`: the table is full, and this is the last offset that is in it.
    fn map_batch(
        &mut self,
        view: RecordBatchView<'_>,
        passed: &mut PassedTransactions,
        reader: &Reader,
    ) -> Result<Option<Offset>, CompactionError> {
        let header = view.header();
        if header.is_control() {
            if let Some(end) = control::end_transaction(view)
                && passed.marker(header, end) == Marker::Contradiction
            {
                return Err(reader.unknown_abort());
            }
            return Ok(None);
        }
        if passed.batch(header) {
            return Ok(None);
        }
        let Ok(keys) = self.keys_of(view) else {
            // It stays as it is, and nobody can read it: it must not supersede anything.
            return Ok(None);
        };
        for (key, offset) in keys {
            if !self.map.put(key, offset) {
                return Ok(Some(Offset(offset.0 - 1)));
            }
        }
        Ok(None)
    }

    /// The keys of a batch, all or none.
    fn keys_of(&self, view: RecordBatchView<'_>) -> Result<Vec<(KeyHash, Offset)>, RecordError> {
        let mut keys = Vec::new();
        let mut records = Records::open(view, self.record_limits)?;
        while let Some(record) = records.next_ref() {
            let record = record?;
            if let Some(key) = record.key()
                && record.offset >= self.first_dirty
            {
                keys.push((self.map.hash(key), record.offset));
            }
        }
        Ok(keys)
    }

    fn plan_groups(&mut self) {
        let end = self.end_offset;
        let count = self
            .sources
            .partition_point(|source| source.extent.base_offset < end);
        let extents: Vec<Extent> = self.sources[..count].iter().map(|one| one.extent).collect();
        let entries_max = u64::from(self.segment_index_bytes) / index::TIME_ENTRY_BYTES as u64;
        let groups = groups(
            &extents,
            u64::from(self.segment_size_bytes.min(i32::MAX as u32)),
            entries_max,
            u64::from(self.index_interval_bytes),
        );
        self.groups = groups.into_iter();
    }

    /// The transactions that a pass over the sources has to know.
    fn aborted_transactions(&self) -> Result<Vec<AbortedTransaction>, CompactionError> {
        let mut all = Vec::new();
        for source in self.sources.iter().chain(&self.later) {
            let base = source.extent.base_offset;
            let entries = match &source.aborted {
                Some(entries) => entries.clone(),
                None => self.read_transaction_index(base)?,
            };
            all.extend(
                entries
                    .into_iter()
                    .filter(|entry| entry.first_offset < self.end_offset),
            );
        }
        Ok(all)
    }

    fn read_transaction_index(
        &self,
        base: Offset,
    ) -> Result<Vec<AbortedTransaction>, CompactionError> {
        let path = path(&self.dir, base, SegmentFile::TransactionIndex);
        let bytes = match read_file(&*self.disk, &path, TRANSACTION_INDEX_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(CompactionError::io(&path, error)),
        };
        index::decode_aborted(&bytes, base).ok_or(CompactionError::Corrupt {
            path,
            position: 0,
            fault: Fault::Offsets,
        })
    }

    /// Writes the next group; `None` when all are written, or nothing of a group would change.
    pub(super) fn rewrite_next(
        &mut self,
        pace: Pace<'_>,
    ) -> Result<Option<Rewritten>, CompactionError> {
        while let Some(group) = self.groups.next() {
            let base = self.sources[group.start].extent.base_offset;
            let path = format!(
                "{}{CLEANED_SUFFIX}",
                path(&self.dir, base, SegmentFile::Log)
            );
            let result = self.rewrite_group(group, &path, pace);
            if !matches!(result, Ok(Some(_))) {
                // Recovery would remove it, too.
                let _ = remove_if_there(&*self.disk, &path);
            }
            if let Some(rewritten) = result? {
                return Ok(Some(rewritten));
            }
        }
        Ok(None)
    }

    fn rewrite_group(
        &mut self,
        group: Range<usize>,
        path: &str,
        pace: Pace<'_>,
    ) -> Result<Option<Rewritten>, CompactionError> {
        let base = self.sources[group.start].extent.base_offset;
        // The last batch of all: a group may end with empty segments.
        let Some(last) = group
            .clone()
            .rev()
            .find(|at| self.sources[*at].extent.size_bytes > 0)
        else {
            return Ok(None);
        };
        let mut output = Output::create(self, path, base)?;
        let (mut counts, mut aborted) = (Counts::default(), Vec::new());
        let mut changed = group.len() > 1;
        for at in group.clone() {
            let last = at == last;
            changed |=
                self.rewrite_source(at, last, &mut output, &mut counts, &mut aborted, pace)?;
        }
        self.stats.records_read += counts.records_read;
        self.stats.records_kept += counts.records_kept;
        self.stats.keyless += counts.keyless;
        self.stats.unreadable += counts.unreadable;
        if !changed {
            return Ok(None);
        }
        self.stats.written_bytes += output.position();
        let extents: Vec<Extent> = self.sources[group].iter().map(|one| one.extent).collect();
        let modified = extents
            .last()
            .and_then(|last| self.modified_ms(last.base_offset));
        let (file, size_bytes, index) = output.finish(aborted, modified, pace)?;
        Ok(Some(Rewritten {
            file,
            extents,
            size_bytes,
            index,
            truncations: self.truncations,
        }))
    }

    /// True when anything of it was dropped or replaced. `is_last`: nothing follows in the output.
    fn rewrite_source(
        &mut self,
        at: usize,
        is_last: bool,
        output: &mut Output,
        counts: &mut Counts,
        aborted: &mut Vec<AbortedTransaction>,
        pace: Pace<'_>,
    ) -> Result<bool, CompactionError> {
        let mut reader = Reader::open(self, at)?;
        let mut changed = false;
        while reader.advance(pace, &mut self.stats)? {
            let batch = reader.batch()?;
            let mut rewrite = Rewrite {
                map: &self.map,
                latest: self.latest,
                producers: &self.producers,
                transactions: &mut self.transactions,
                now_ms: self.limits.now_ms,
                delete_retention_ms: self.limits.delete_retention_ms,
                record_limits: self.record_limits,
                counts,
                aborted,
            };
            let decision = rewrite.decide(batch, is_last && reader.at_end());
            match decision.map_err(|_| reader.unknown_abort())? {
                Decision::Copy => output.push(batch.header(), batch.bytes(), pace)?,
                Decision::Drop => changed = true,
                Decision::Replace(batch) => {
                    changed = true;
                    output.push(batch.header(), batch.bytes(), pace)?;
                }
            }
        }
        Ok(changed)
    }

    fn modified_ms(&self, base: Offset) -> Option<i64> {
        let path = path(&self.dir, base, SegmentFile::Log);
        self.disk.modified_ms(&path).ok().flatten()
    }

    /// Where the next round begins, once all groups are in the log.
    pub(super) fn end_offset(&self) -> Offset {
        self.end_offset
    }

    pub(super) fn stats(&self) -> CompactionStats {
        self.stats
    }
}

/// The batches of one source, whole and with a matching CRC.
struct Reader {
    file: Arc<dyn DiskFile>,
    path: String,
    base_offset: Offset,
    size_bytes: u64,
    /// Where the next batch begins, and the offset from which it may.
    position: u64,
    expected: Offset,
    /// A stretch of the file from `start` on, and how much of it is there to be read at once.
    buffer: Vec<u8>,
    start: u64,
    buffer_bytes: usize,
    /// The batch at hand, in the file.
    current: Range<u64>,
}

impl Reader {
    fn open(compaction: &Compaction, at: usize) -> Result<Reader, CompactionError> {
        let extent = compaction.sources[at].extent;
        let path = path(&compaction.dir, extent.base_offset, SegmentFile::Log);
        let file = match compaction.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CompactionError::Overtaken);
            }
            Err(error) => return Err(CompactionError::io(&path, error)),
        };
        Ok(Reader {
            file,
            path,
            base_offset: extent.base_offset,
            size_bytes: extent.size_bytes,
            position: 0,
            expected: extent.base_offset,
            buffer: Vec::new(),
            start: 0,
            buffer_bytes: compaction.limits.io_buffer_bytes.max(BUFFER_BYTES_MIN),
            current: 0..0,
        })
    }

    /// Goes on to the next batch; false at the end.
    fn advance(
        &mut self,
        pace: Pace<'_>,
        stats: &mut CompactionStats,
    ) -> Result<bool, CompactionError> {
        if self.at_end() {
            return Ok(false);
        }
        let position = self.position;
        let head = self.window(BATCH_HEADER_BYTES, pace, stats)?;
        let header = BatchHeader::parse(head).map_err(|error| self.bad(error.into()))?;
        self.check(&header).map_err(|fault| self.bad(fault))?;
        let batch = self.window(header.size_bytes(), pace, stats)?;
        let sound = RecordBatchView::parse(batch).is_ok_and(|view| view.crc_is_valid());
        if !sound {
            return Err(self.bad(Fault::Crc));
        }
        self.position += header.size_bytes() as u64;
        self.expected = header.last_offset().next();
        self.current = position..self.position;
        Ok(true)
    }

    fn check(&self, header: &BatchHeader) -> Result<(), Fault> {
        let end = self.position + header.size_bytes() as u64;
        if end > self.size_bytes {
            return Err(Fault::CutOff);
        }
        let last = i64::from(header.last_offset_delta);
        let last = header.base_offset.checked_add(last);
        let fits =
            |last: Offset| last.0 < i64::MAX && last.0 - self.base_offset.0 <= i64::from(i32::MAX);
        let sound = header.base_offset >= self.expected
            && header.last_offset_delta >= 0
            && header.record_count >= 0
            && last.is_some_and(fits);
        sound.then_some(()).ok_or(Fault::Offsets)
    }

    /// The batch at hand.
    fn batch(&self) -> Result<RecordBatchView<'_>, CompactionError> {
        let from = (self.current.start - self.start) as usize;
        let to = (self.current.end - self.start) as usize;
        let bytes = self.buffer.get(from..to).unwrap_or_default();
        RecordBatchView::parse(bytes).map_err(|error| self.bad(error.into()))
    }

    /// The batch at hand is the last one of the file.
    fn at_end(&self) -> bool {
        self.position >= self.size_bytes
    }

    /// So many bytes of the file, from the position on.
    fn window(
        &mut self,
        need: usize,
        pace: Pace<'_>,
        stats: &mut CompactionStats,
    ) -> Result<&[u8], CompactionError> {
        let end = self.start + self.buffer.len() as u64;
        if self.position < self.start || self.position + need as u64 > end {
            let left = usize::try_from(self.size_bytes - self.position).unwrap_or(usize::MAX);
            let want = need.max(self.buffer_bytes).min(left);
            if !pace(want as u64) {
                return Err(CompactionError::Stopped);
            }
            if self.buffer.capacity() > want.max(4 * self.buffer_bytes) {
                self.buffer = Vec::new();
            }
            self.buffer.resize(want, 0);
            self.start = self.position;
            let read = self.file.read_at(self.position, &mut self.buffer);
            let read = read.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => CompactionError::Overtaken,
                _ => CompactionError::io(&self.path, error),
            })?;
            self.buffer.truncate(read);
            stats.read_bytes += read as u64;
        }
        let from = (self.position - self.start) as usize;
        match self.buffer.get(from..from + need) {
            Some(bytes) => Ok(bytes),
            None => Err(self.bad(Fault::CutOff)),
        }
    }

    fn bad(&self, fault: Fault) -> CompactionError {
        CompactionError::Corrupt {
            path: self.path.clone(),
            position: self.position,
            fault,
        }
    }

    fn unknown_abort(&self) -> CompactionError {
        CompactionError::UnknownAbort {
            path: self.path.clone(),
            position: self.current.start,
        }
    }
}

/// The file that a group is written to.
struct Output {
    disk: Arc<dyn Disk>,
    path: String,
    file: Arc<dyn DiskFile>,
    base_offset: Offset,
    index: SegmentIndex,
    index_interval_bytes: u32,
    written: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
}

impl Output {
    fn create(
        compaction: &Compaction,
        path: &str,
        base_offset: Offset,
    ) -> Result<Output, CompactionError> {
        let disk = Arc::clone(&compaction.disk);
        let create = || {
            let file = open_or_create(&*disk, path)?;
            file.truncate(0)?;
            Ok(file)
        };
        let file = create().map_err(|error: io::Error| match error.kind() {
            // The directory is gone.
            io::ErrorKind::NotFound => CompactionError::Overtaken,
            _ => CompactionError::io(path, error),
        })?;
        Ok(Output {
            disk,
            path: path.to_owned(),
            file,
            base_offset,
            index: SegmentIndex::empty(),
            index_interval_bytes: compaction.index_interval_bytes,
            written: 0,
            buffer: Vec::new(),
            buffer_bytes: compaction.limits.io_buffer_bytes.max(BUFFER_BYTES_MIN),
        })
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn push(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        pace: Pace<'_>,
    ) -> Result<(), CompactionError> {
        let position = self.position();
        if position + bytes.len() as u64 > i32::MAX as u64 {
            let path = self.path.clone();
            return Err(CompactionError::TooLarge { path });
        }
        let relative = (header.last_offset() - self.base_offset) as u32;
        // Kafka's tool that verifies indexes wants a record behind each entry.
        let interval_bytes = match header.record_count {
            0 => u32::MAX,
            _ => self.index_interval_bytes,
        };
        let largest = header.max_timestamp;
        self.index
            .observe(position as u32, relative, largest, interval_bytes);
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() >= self.buffer_bytes {
            true => self.write(pace),
            false => Ok(()),
        }
    }

    fn write(&mut self, pace: Pace<'_>) -> Result<(), CompactionError> {
        if !pace(self.buffer.len() as u64) {
            return Err(CompactionError::Stopped);
        }
        let parts = [IoSlice::new(&self.buffer)];
        let written = self.file.write_at(self.written, &parts);
        written.map_err(|error| CompactionError::io(&self.path, error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Syncs. The file is as old as the newest of its sources.
    fn finish(
        mut self,
        aborted: Vec<AbortedTransaction>,
        modified_ms: Option<i64>,
        pace: Pace<'_>,
    ) -> Result<(Arc<dyn DiskFile>, u32, SegmentIndex), CompactionError> {
        if !self.buffer.is_empty() {
            self.write(pace)?;
        }
        let synced = self.file.sync_data();
        synced.map_err(|error| CompactionError::io(&self.path, error))?;
        if let Some(modified_ms) = modified_ms {
            // Only retention of records without timestamps looks at it.
            let _ = self.disk.set_modified_ms(&self.path, modified_ms);
        }
        self.index.close_times();
        self.index.aborted = aborted;
        Ok((self.file, self.written as u32, self.index))
    }
}
