//! Readers on a real disk while a log grows, rolls, is cut above its high watermark, loses its
//! oldest segments, is compacted and is released: each record that a reader gets is the one that
//! was committed under its offset, whole, in order, and what was gone stays gone.
//!
//! The bytes are fetched after the lock is given up, in each of the ways of a broker: by a read, by
//! a map, and by `sendfile` into a socket. There are fewer descriptors and maps than segments.

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
use ottla_storage::log::{AppendAt, FlushWork, Log, LogConfig, Origin, ReadError, Retention};
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
        segment_size_bytes: 60_000,
        index_interval_bytes: 2_000,
        timestamp_after_max_ms: i64::MAX,
        compacted,
        ..LogConfig::default()
    };
    let log = Log::create(Arc::new(disk), "t-0", TopicId::ZERO, config).unwrap();
    let shared = Shared {
        log: Mutex::new(log),
        committed: Mutex::default(),
        high_watermark: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let seconds = std::env::var("SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let read = std::thread::scope(|scope| {
        let shared = &shared;
        let readers: Vec<_> = (0..READERS)
            .map(|seed| scope.spawn(move || Reader::new(seed).run(shared, compacted)))
            .collect();
        let worker = scope.spawn(move || work_beside(shared, compacted));
        write(shared, until);
        shared.stop.store(true, Ordering::Relaxed);
        let rounds = worker.join().unwrap();
        let read: u64 = readers.into_iter().map(|one| one.join().unwrap()).sum();
        assert!(rounds > 2, "{rounds} rounds");
        read
    });
    let end = shared.committed_end().0 as u64;
    assert!(
        end > 500 && read > end,
        "{read} records read, {end} written"
    );
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
        match rng.random_range(0..10) {
            0..4 => {
                let committed = shared.committed_end().0;
                let to = rng.random_range(committed..=attempts.len() as i64);
                let mut log = shared.log.lock();
                log.truncate_to(Offset(to)).unwrap();
                attempts.truncate(log.log_end_offset().0 as usize);
                epoch += 1;
                log.assign_leader_epoch(LeaderEpoch(epoch));
            }
            4..6 => flush(shared, Log::begin_checkpoint, &attempts),
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
    let end = log.recovery_point().0 as usize;
    shared
        .committed
        .lock()
        .clone_from(&attempts[..end].to_vec());
    shared.high_watermark.store(end as u64, Ordering::Release);
}

/// What housekeeping does, and the cleaner.
fn work_beside(shared: &Shared, compacted: bool) -> u64 {
    let mut rounds = 0;
    while !shared.stopped() {
        std::thread::sleep(Duration::from_millis(5));
        let done = match compacted {
            true => compact_once(shared),
            false => expire(shared),
        };
        shared.log.lock().release_caches();
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

struct Reader {
    rng: StdRng,
    /// Offsets that were looked for and are compacted away.
    gone: Vec<bool>,
    socket: (UnixStream, UnixStream),
    records: u64,
}

impl Reader {
    fn new(seed: u64) -> Reader {
        Reader {
            rng: StdRng::seed_from_u64(seed),
            gone: Vec::new(),
            socket: UnixStream::pair().unwrap(),
            records: 0,
        }
    }

    fn run(mut self, shared: &Shared, compacted: bool) -> u64 {
        while !shared.stopped() {
            let end = shared.committed_end();
            let log = shared.log.lock();
            let start = log.log_start_offset().min(end);
            let from = Offset(self.rng.random_range(start.0..=end.0));
            let size = self.rng.random_range(1..50_000);
            let read = match log.read(from, size, end, true) {
                Err(ReadError::OffsetOutOfRange { .. }) => continue,
                read => read.unwrap(),
            };
            drop(log);
            std::thread::yield_now();
            let pieces: Vec<Vec<u8>> = read.data.iter().map(|data| self.fetch(data)).collect();
            let found = self.check(&pieces.concat(), from, shared);
            assert!(from == end || read.next_offset > from, "{from} is stuck");
            assert!(read.next_offset <= end);
            self.check_gaps(from.0, read.next_offset.0, &found, compacted);
        }
        self.records
    }

    fn fetch(&mut self, data: &RecordData) -> Vec<u8> {
        let range = match data {
            RecordData::Bytes(bytes) => return bytes.to_vec(),
            RecordData::File(range) => range,
        };
        match self.rng.random_range(0..3) {
            0 => range.read().unwrap().to_vec(),
            1 => {
                let view = range.file.view(range.range());
                // It may be cut off by now, if it was read before it was compacted away.
                let view = view.unwrap_or_else(|_| range.read().unwrap());
                // A view outlives whatever happens to its file.
                std::thread::sleep(Duration::from_micros(self.rng.random_range(0..300)));
                view.to_vec()
            }
            _ => self.send(range),
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
    fn check(&mut self, mut bytes: &[u8], from: Offset, shared: &Shared) -> Vec<i64> {
        let mut found = Vec::new();
        let committed = shared.committed.lock().clone();
        while !bytes.is_empty() {
            let view = RecordBatchView::parse(bytes).unwrap();
            assert!(view.crc_is_valid(), "a torn batch after {from}");
            let last = found.last().copied().unwrap_or(-1);
            assert!(view.base_offset().0 > last, "offsets grow");
            for record in Records::open(view, RecordLimits::default()).unwrap() {
                let record = record.unwrap();
                let (offset, value) = (record.offset.0, record.value.unwrap());
                let attempt = committed[offset as usize].to_be_bytes();
                let (repeated, own) = value.split_at(VALUE_BYTES);
                assert_eq!(own, offset.to_be_bytes());
                assert_eq!(record.key.unwrap(), key_of(offset).as_slice());
                let same = repeated.chunks(8).all(|chunk| chunk == attempt);
                assert!(same, "offset {offset} is not what was committed");
                found.push(offset);
            }
            bytes = &bytes[view.size_bytes()..];
        }
        self.records += found.len() as u64;
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
