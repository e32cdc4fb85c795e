//! Readers on a real disk while a log grows, rolls, is cut above its high watermark, loses its
//! oldest segments, is compacted and is released: each record that a reader gets is the one that
//! was committed under its offset, whole, in order, and what was gone stays gone.
//! Beside them a replica reads up to the log end, what will be cut off as well, and holds it.
//!
//! The bytes are fetched after the lock is given up, in each of the ways of a broker: from the
//! tail, by a read, by a map, and by `sendfile` into a socket. There are fewer descriptors and maps
//! than segments.
//!
//! Defects that were planted one at a time, and that these tests caught:
//! - a truncation, or the install of a compacted segment, that leaves the tail as it was;
//! - a read of a segment to its end, above the high watermark;
//! - a range of a file that is not pinned;
//! - a file cut in place under the map of somebody who holds it, and a map of the file that a cut
//!   replaced handed out again;
//! - a compacted segment installed beside its second source, to be taken away later;
//! - the handle of a segment released while it has a passing name, so that its old name is opened.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_protocol::batch::{BatchBuilder, RecordBatchView};
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::types::{LeaderEpoch, Offset, TopicId};
use ottla_storage::disk::{Budget, FileRange, RealDisk, RecordData};
use ottla_storage::log::compact::{CompactionLimits, CompactionPolicy, LogAccess, compact};
use ottla_storage::log::{
    AppendAt, FlushWork, Log, LogConfig, Origin, ReadError, Retention, TailBudget,
};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const READERS: u64 = 3;
/// Values are larger than the smallest range that is mapped.
const VALUE_BYTES: usize = 600;
const KEYS: i64 = 23;
/// How long each kind of log is read, unless `SECONDS=n` says otherwise.
const SECONDS: u64 = 4;

/// A log behind a lock, and what was committed to it.
struct Shared {
    log: Mutex<Log>,
    /// By offset: which attempt to write there is the one that counts. Grows before the high
    /// watermark does.
    committed: Mutex<Vec<u64>>,
    high_watermark: AtomicU64,
    /// Changes under the log's lock.
    truncations: AtomicU64,
    stop: AtomicBool,
}

impl LogAccess for Shared {
    fn with_log<T>(&self, f: impl FnOnce(&mut Log) -> T) -> Option<T> {
        Some(f(&mut self.log.lock()))
    }
}

impl Shared {
    fn committed_end(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire) as i64)
    }

    /// How many there were, and none under way.
    fn truncations(&self) -> u64 {
        let _quiet = self.log.lock();
        self.truncations.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[test]
fn readers_beside_rolls_truncations_and_deletions_get_what_was_committed() {
    race(false);
}

#[test]
fn readers_beside_compactions_and_truncations_get_what_was_committed() {
    race(true);
}

fn race(compacted: bool) {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(root.path(), &Budget::new(4, 3)).unwrap();
    let config = LogConfig {
        segment_size_bytes: 40_000,
        index_interval_bytes: 2_000,
        timestamp_after_max_ms: i64::MAX,
        zeros_from_bytes: 3_000,
        compacted,
        ..LogConfig::default()
    };
    let log = Log::create(Arc::new(disk), "t-0", TopicId::ZERO, config).unwrap();
    let shared = Shared {
        log: Mutex::new(log),
        committed: Mutex::default(),
        high_watermark: AtomicU64::new(0),
        truncations: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let seconds = std::env::var("SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let ways = std::thread::scope(|scope| {
        let shared = &shared;
        let readers: Vec<_> = (0..READERS)
            .map(|seed| scope.spawn(move || Reader::new(seed).run(shared, compacted)))
            .collect();
        let replica = scope.spawn(move || Reader::new(READERS).replicate(shared));
        let worker = scope.spawn(move || work_beside(shared, compacted));
        scope.spawn(move || release_caches(shared));
        write(shared, until);
        shared.stop.store(true, Ordering::Relaxed);
        let rounds = worker.join().unwrap();
        assert!(rounds > 2, "{rounds} rounds");
        let mut all = replica.join().unwrap();
        for reader in readers {
            all.add(&reader.join().unwrap());
        }
        all
    });
    let end = shared.committed_end().0 as u64;
    assert!(end > 500 && ways.records > end, "{end} written, {ways:?}");
    let least = ways.tail.min(ways.read).min(ways.viewed).min(ways.sent);
    assert!(least > 20, "a way to the bytes is hardly used: {ways:?}");
    assert!(ways.refused > 0 || compacted, "{ways:?}");
}

/// Appends, commits, and now and then cuts off what is not committed and writes something else.
fn write(shared: &Shared, until: Instant) {
    let mut rng = StdRng::seed_from_u64(9);
    let (mut attempts, mut epoch) = (Vec::<u64>::new(), 0);
    let mut attempt = 0;
    while Instant::now() < until {
        for _ in 0..rng.random_range(1..8) {
            attempt += 1;
            append(shared, &mut attempts, attempt, epoch);
        }
        // Each truncation ends the tail: for a while there are few of them.
        let calm = attempt % 1_000 < 500 && rng.random_range(0..8) > 0;
        match rng.random_range(0..10) {
            0..4 if !calm => {
                let committed = shared.committed_end().0;
                let to = rng.random_range(committed..=attempts.len() as i64);
                let mut log = shared.log.lock();
                log.truncate_to(Offset(to)).unwrap();
                shared.truncations.fetch_add(1, Ordering::Relaxed);
                attempts.truncate(log.log_end_offset().0 as usize);
                epoch += 1;
                log.assign_leader_epoch(LeaderEpoch(epoch));
            }
            0..2 => flush(shared, Log::begin_checkpoint, &attempts),
            _ => flush(shared, Log::begin_flush, &attempts),
        }
        // Not faster than the readers can be.
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A batch of one to three records that say which attempt they are of.
fn append(shared: &Shared, attempts: &mut Vec<u64>, attempt: u64, epoch: i32) {
    let mut builder = BatchBuilder::new();
    let base = attempts.len() as i64;
    for offset in base..base + 1 + attempt as i64 % 3 {
        let mut value = attempt.to_be_bytes().repeat(VALUE_BYTES / 8);
        value.extend(offset.to_be_bytes());
        builder.append(1, Some(&key_of(offset)), Some(&value), &[]);
        attempts.push(attempt);
    }
    let at = AppendAt {
        leader_epoch: LeaderEpoch(epoch),
        now_ms: 1,
        origin: Origin::Coordinator,
    };
    let batch = builder.build().unwrap();
    shared.log.lock().append(batch, &at).unwrap();
}

fn key_of(offset: i64) -> [u8; 1] {
    [(offset % KEYS) as u8]
}

fn flush(shared: &Shared, begin: fn(&Log) -> FlushWork, attempts: &[u64]) {
    let work = begin(&shared.log.lock());
    let result = work.run();
    let mut log = shared.log.lock();
    log.finish_flush(work, result);
    log.write_zeros_ahead();
    let end = log.recovery_point().0 as usize;
    shared
        .committed
        .lock()
        .clone_from(&attempts[..end].to_vec());
    shared.high_watermark.store(end as u64, Ordering::Release);
}

/// What housekeeping does to a log that it takes for idle, at any time: also in the middle of a
/// round. The tail comes and goes: without one, reads at the end are of files as well.
fn release_caches(shared: &Shared) {
    let mut rng = StdRng::seed_from_u64(10);
    // Far less than there is to read.
    let (none, some) = (TailBudget::new(0), TailBudget::new(150_000));
    while !shared.stopped() {
        let calm = rng.random_bool(0.1);
        let mut log = shared.log.lock();
        let tail_budget = Arc::clone(if calm { &some } else { &none });
        let config = log.config().clone();
        log.set_config(LogConfig {
            tail_budget,
            ..config
        });
        log.release_caches();
        drop(log);
        // Long enough for a round beside what the tail holds.
        let most_us = if calm { 300_000 } else { 8_000 };
        std::thread::sleep(Duration::from_micros(rng.random_range(0..most_us)));
    }
}

/// What deletes, and the cleaner.
fn work_beside(shared: &Shared, compacted: bool) -> u64 {
    let mut rounds = 0;
    while !shared.stopped() {
        std::thread::sleep(Duration::from_millis(5));
        let done = match compacted {
            true => compact_once(shared),
            false => expire(shared),
        };
        rounds += u64::from(done);
    }
    rounds
}

/// True when segments were deleted.
fn expire(shared: &Shared) -> bool {
    let high_watermark = shared.committed_end();
    let mut log = shared.log.lock();
    let retention = Retention {
        max_age_ms: None,
        max_bytes: Some(500_000),
    };
    if let Some(expired) = log.expired(&retention, high_watermark, 1).unwrap() {
        log.advance_log_start_offset(expired.log_start_offset)
            .unwrap();
    }
    let old = log.delete_segments_below_log_start().unwrap();
    drop(log);
    old.remove().unwrap();
    !old.is_empty()
}

/// True when a round came to its end.
fn compact_once(shared: &Shared) -> bool {
    let policy = CompactionPolicy {
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
    };
    let end = shared.committed_end();
    let cleanable = shared.log.lock().cleanable(&policy, end, 1).unwrap();
    let limits = CompactionLimits {
        map_memory_bytes: 1 << 16,
        map_load_factor: 0.9,
        io_buffer_bytes: 64 << 10,
        delete_retention_ms: 0,
        now_ms: 1,
        hash_key: (1, 2),
    };
    // A truncation may come in between, which ends the round.
    let done = compact(shared, &cleanable, limits, &mut |_| true, &mut |old| {
        old.remove().unwrap();
    });
    done.is_ok()
}

/// How readers came to their bytes.
#[derive(Debug, Default)]
struct Ways {
    records: u64,
    tail: u64,
    read: u64,
    viewed: u64,
    sent: u64,
    /// Reads below the log start.
    refused: u64,
}

impl Ways {
    fn add(&mut self, other: &Ways) {
        self.records += other.records;
        self.tail += other.tail;
        self.read += other.read;
        self.viewed += other.viewed;
        self.sent += other.sent;
        self.refused += other.refused;
    }
}

struct Reader {
    rng: StdRng,
    /// Offsets that were looked for and are compacted away.
    gone: Vec<bool>,
    socket: (UnixStream, UnixStream),
    ways: Ways,
}

impl Reader {
    fn new(seed: u64) -> Reader {
        Reader {
            rng: StdRng::seed_from_u64(seed),
            gone: Vec::new(),
            socket: UnixStream::pair().unwrap(),
            ways: Ways::default(),
        }
    }

    /// A consumer: reads what is committed.
    fn run(mut self, shared: &Shared, compacted: bool) -> Ways {
        while !shared.stopped() {
            let log = shared.log.lock();
            // Under the lock: below an older end everything may be compacted away by now.
            let end = shared.committed_end();
            let start = log.log_start_offset().min(end);
            let from = self.from(start, end);
            let size = self.rng.random_range(1..50_000);
            let read = match log.read(from, size, end, true) {
                Err(ReadError::OffsetOutOfRange { .. }) => {
                    self.ways.refused += u64::from(from < start);
                    continue;
                }
                read => read.unwrap(),
            };
            assert!(from >= log.log_start_offset(), "{from} was deleted");
            drop(log);
            std::thread::yield_now();
            let pieces: Vec<Vec<u8>> = read.data.iter().map(|data| self.fetch(data)).collect();
            let found = self.check(&pieces.concat(), from, shared);
            assert!(from == end || read.next_offset > from, "{from} is stuck");
            assert!(read.next_offset <= end);
            self.check_gaps(from.0, read.next_offset.0, &found, compacted);
        }
        self.ways
    }

    /// Anywhere, near the end, or where nothing is any more.
    fn from(&mut self, start: Offset, end: Offset) -> Offset {
        Offset(match self.rng.random_range(0..16) {
            0 => (start.0 - 1).max(0),
            1..6 => self.rng.random_range(start.0.max(end.0 - 300)..=end.0),
            _ => self.rng.random_range(start.0..=end.0),
        })
    }

    /// A replica that reads up to the log end, also what will be cut off. A truncation right after
    /// its read may change what it gets, never what it holds.
    fn replicate(mut self, shared: &Shared) -> Ways {
        while !shared.stopped() {
            let log = shared.log.lock();
            let truncations = shared.truncations.load(Ordering::Relaxed);
            let end = log.log_end_offset();
            let least = log.log_start_offset().0.max(end.0 - 60);
            let from = Offset(self.rng.random_range(least..=end.0));
            let read = log.read(from, 40_000, end, true).unwrap();
            // A replica that has caught up: the next appends stay in memory.
            log.read(end, 1, end, true).unwrap();
            drop(log);
            for data in &read.data {
                self.hold(data, truncations, shared);
            }
        }
        self.ways
    }

    fn hold(&mut self, data: &RecordData, truncations: u64, shared: &Shared) {
        let bytes = match data {
            RecordData::Bytes(bytes) => bytes.clone(),
            RecordData::File(range) => match range.file.view(range.range()) {
                Ok(bytes) => bytes,
                Err(error) => {
                    assert!(shared.truncations() > truncations, "{error}");
                    return;
                }
            },
        };
        let copy = bytes.to_vec();
        if shared.truncations() == truncations || matches!(data, RecordData::Bytes(_)) {
            self.check_frames(&copy, None);
        }
        std::thread::sleep(Duration::from_micros(self.rng.random_range(0..6_000)));
        assert!(bytes == copy, "bytes changed in the hands of their holder");
    }

    fn fetch(&mut self, data: &RecordData) -> Vec<u8> {
        let range = match data {
            RecordData::Bytes(bytes) => {
                self.ways.tail += 1;
                return bytes.to_vec();
            }
            RecordData::File(range) => range,
        };
        match self.rng.random_range(0..3) {
            0 => {
                self.ways.read += 1;
                range.read().unwrap().to_vec()
            }
            1 => {
                self.ways.viewed += 1;
                let view = range.file.view(range.range());
                // It may be cut off by now, if it was read before it was compacted away.
                let view = view.unwrap_or_else(|_| range.read().unwrap());
                // A view outlives whatever happens to its file.
                std::thread::sleep(Duration::from_micros(self.rng.random_range(0..300)));
                view.to_vec()
            }
            _ => {
                self.ways.sent += 1;
                self.send(range)
            }
        }
    }

    fn send(&mut self, range: &FileRange) -> Vec<u8> {
        let (mut position, end) = (range.range().start, range.range().end);
        let mut bytes = Vec::new();
        while position < end {
            let most = (end - position).min(4_096) as usize;
            let fd = range.fd().unwrap();
            let sent = rustix::fs::sendfile(&self.socket.0, fd, Some(&mut position), most).unwrap();
            assert!(sent > 0, "the file ends before the range");
            let at = bytes.len();
            bytes.resize(at + sent, 0);
            self.socket.1.read_exact(&mut bytes[at..]).unwrap();
        }
        bytes
    }

    /// Every record is the committed one; which offsets there are.
    fn check(&mut self, bytes: &[u8], from: Offset, shared: &Shared) -> Vec<i64> {
        let committed = shared.committed.lock().clone();
        let found = self.check_frames(bytes, Some(&committed));
        let before = found.first().is_some_and(|first| *first < from.0 - 2);
        assert!(!before, "an answer from {from} begins at {found:?}");
        found
    }

    /// Whole batches in order, of records that belong where they are; of the attempts that
    /// `committed` names, if it is known.
    fn check_frames(&mut self, mut bytes: &[u8], committed: Option<&[u64]>) -> Vec<i64> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let view = RecordBatchView::parse(bytes).unwrap();
            assert!(view.crc_is_valid(), "a torn batch after {found:?}");
            let last = found.last().copied().unwrap_or(-1);
            assert!(view.base_offset().0 > last, "offsets grow");
            for record in Records::open(view, RecordLimits::default()).unwrap() {
                let record = record.unwrap();
                let (offset, value) = (record.offset.0, record.value.unwrap());
                let (repeated, own) = value.split_at(VALUE_BYTES);
                assert_eq!(own, offset.to_be_bytes());
                assert_eq!(record.key.unwrap(), key_of(offset).as_slice());
                let attempt = match committed {
                    Some(committed) => &committed[offset as usize].to_be_bytes(),
                    None => &repeated[..8],
                };
                let same = repeated.chunks(8).all(|chunk| chunk == attempt);
                assert!(same, "offset {offset} is not what was committed");
                found.push(offset);
            }
            bytes = &bytes[view.size_bytes()..];
        }
        self.ways.records += found.len() as u64;
        found
    }

    /// Only compaction leaves gaps, and what is gone stays gone.
    fn check_gaps(&mut self, from: i64, next: i64, found: &[i64], compacted: bool) {
        self.gone.resize(self.gone.len().max(next as usize), false);
        for offset in from..next {
            let here = found.binary_search(&offset).is_ok();
            assert!(here || compacted, "{offset} is missing");
            assert!(!here || !self.gone[offset as usize], "{offset} came back");
            self.gone[offset as usize] |= !here;
        }
    }
}
