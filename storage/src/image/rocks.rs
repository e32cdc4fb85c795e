//! Images in RocksDB; the only file that names it.
//!
//! One database for all images of a broker: its price (memtables, threads, files) is paid once.
//! Keys are `length of the name, name, kind, key`, so no image's keys start like another's.
//! Small memtables and a small cache: an image is read when a coordinator loads, not on the way of
//! a request.
//!
//! Every write goes to the write-ahead log without a sync: a killed process loses nothing, and a
//! power cut leaves an earlier write's state, from which the log is replayed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::types::Offset;
use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, ErrorKind, IteratorMode,
    LogLevel, Options, ReadOptions, WriteBatch,
};

use super::{Change, Image, ImageError, ImageHome, ImageStore, Visit, assert_forward, assert_name};

/// The version of the keys and values below.
const FORMAT: &[u8] = b"1";
/// No image's key starts with a zero: names are not empty.
const FORMAT_KEY: &[u8] = &[0];

const KIND_APPLIED: u8 = 0;
const KIND_VALUE: u8 = 1;

const MEMTABLE_SIZE_BYTES: usize = 4 << 20;
const CACHE_SIZE_BYTES: usize = 8 << 20;
const WAL_SIZE_BYTES_MAX: u64 = 16 << 20;
const OPEN_FILES_MAX: i32 = 256;

/// A directory for a store, which is opened when it is needed.
pub struct RocksHome {
    path: PathBuf,
}

impl RocksHome {
    /// The parent must exist when the store is opened.
    pub fn new(path: PathBuf) -> RocksHome {
        RocksHome { path }
    }
}

impl ImageHome for RocksHome {
    fn open(&self) -> Result<Arc<dyn ImageStore>, ImageError> {
        Ok(Arc::new(RocksStore::open(&self.path)?))
    }

    fn destroy(&self) -> Result<(), ImageError> {
        RocksStore::destroy(&self.path)
    }
}

/// A store in one RocksDB directory.
pub struct RocksStore {
    shared: Arc<Shared>,
}

struct Shared {
    db: DB,
    path: PathBuf,
    held: Mutex<BTreeSet<String>>,
}

struct RocksImage {
    shared: Arc<Shared>,
    name: String,
    applied: Option<Offset>,
}

#[derive(Debug, thiserror::Error)]
enum FormatError {
    #[error("its format is not the one this build writes")]
    Format,
    #[error("the applied offset of {image} has {len} bytes")]
    Applied { image: String, len: usize },
}

impl RocksStore {
    /// Opens the store in a directory, creating it if it is missing; the parent must exist.
    /// [`ImageHome::open_or_replace`] answers [`ImageError::Damaged`].
    pub fn open(path: &Path) -> Result<RocksStore, ImageError> {
        let db = DB::open(&options(), path).map_err(open_error)?;
        match db.get_pinned(FORMAT_KEY).map_err(error)?.as_deref() {
            Some(FORMAT) => {}
            Some(_) => return Err(ImageError::Damaged(FormatError::Format.into())),
            // Without a stamp it must be empty: a new one, or one that stopped while being made.
            None if db.iterator(IteratorMode::Start).next().is_none() => {
                db.put(FORMAT_KEY, FORMAT).map_err(error)?;
            }
            None => return Err(ImageError::Damaged(FormatError::Format.into())),
        }
        let shared = Shared {
            db,
            path: path.to_owned(),
            held: Mutex::default(),
        };
        Ok(RocksStore {
            shared: Arc::new(shared),
        })
    }

    /// Removes a store that is not open, damaged or not.
    pub fn destroy(path: &Path) -> Result<(), ImageError> {
        match std::fs::remove_dir_all(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ImageError::Failed(error.into())),
        }
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_SIZE_BYTES));
    table.set_cache_index_and_filter_blocks(true);
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(MEMTABLE_SIZE_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(WAL_SIZE_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options.set_compression_type(DBCompressionType::Lz4);
    // The log is good up to its first damage: every earlier state is one to replay from.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

impl ImageStore for RocksStore {
    fn image(&self, name: &str) -> Result<Box<dyn Image>, ImageError> {
        assert_name(name);
        let fresh = self.shared.held.lock().insert(name.to_owned());
        assert!(fresh, "the image {name} has a holder already");
        // From here on the name is given back by the image's drop.
        let shared = Arc::clone(&self.shared);
        let mut image = RocksImage {
            shared,
            name: name.to_owned(),
            applied: None,
        };
        image.applied = image.read_applied()?;
        Ok(Box::new(image))
    }

    fn remove(&self, name: &str) -> Result<(), ImageError> {
        assert_name(name);
        let held = self.shared.held.lock();
        assert!(!held.contains(name), "the image {name} has a holder");
        let mut batch = WriteBatch::default();
        batch.delete_range(key(name, KIND_APPLIED, &[]), key(name, KIND_VALUE + 1, &[]));
        self.shared.db.write(batch).map_err(error)
    }

    fn sync(&self) -> Result<(), ImageError> {
        self.shared.db.flush_wal(true).map_err(error)
    }
}

impl RocksImage {
    fn read_applied(&self) -> Result<Option<Offset>, ImageError> {
        let stored = self
            .shared
            .db
            .get_pinned(key(&self.name, KIND_APPLIED, &[]))
            .map_err(error)?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let bytes: [u8; 8] = stored.as_ref().try_into().map_err(|_| {
            let (image, len) = (self.name.clone(), stored.len());
            ImageError::Damaged(FormatError::Applied { image, len }.into())
        })?;
        Ok(Some(Offset(i64::from_be_bytes(bytes))))
    }
}

impl Drop for RocksImage {
    fn drop(&mut self) {
        self.shared.held.lock().remove(&self.name);
    }
}

impl Image for RocksImage {
    fn applied_to(&self) -> Option<Offset> {
        self.applied
    }

    fn get(&self, wanted: &[u8]) -> Result<Option<Bytes>, ImageError> {
        let found = self
            .shared
            .db
            .get_pinned(key(&self.name, KIND_VALUE, wanted))
            .map_err(error)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), ImageError> {
        let own_len = key(&self.name, KIND_VALUE, &[]).len();
        let from = key(&self.name, KIND_VALUE, prefix);
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(key(&self.name, KIND_VALUE + 1, &[]));
        read.fill_cache(false);
        let mut iterator = self.shared.db.raw_iterator_opt(read);
        iterator.seek(&from);
        while let Some((key, value)) = iterator.item() {
            let flow = match key.starts_with(&from) {
                true => visit(&key[own_len..], value),
                false => ControlFlow::Break(()),
            };
            if flow.is_break() {
                break;
            }
            iterator.next();
        }
        iterator.status().map_err(error)
    }

    fn write(&mut self, changes: &[Change], applied_to: Offset) -> Result<(), ImageError> {
        assert_forward(self.applied, applied_to);
        let mut batch = WriteBatch::default();
        for Change {
            key: changed,
            value,
        } in changes
        {
            let key = key(&self.name, KIND_VALUE, changed);
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(
            key(&self.name, KIND_APPLIED, &[]),
            applied_to.0.to_be_bytes(),
        );
        self.shared.db.write(batch).map_err(error)?;
        self.applied = Some(applied_to);
        Ok(())
    }
}

fn key(name: &str, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + rest.len() + 2);
    key.push(name.len() as u8); // at most 255: assert_name
    key.extend_from_slice(name.as_bytes());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

fn error(error: rocksdb::Error) -> ImageError {
    match error.kind() {
        ErrorKind::Corruption => ImageError::Damaged(error.into()),
        ErrorKind::IOError if is_full(&error) => ImageError::Full(error.into()),
        _ => ImageError::Failed(error.into()),
    }
}

/// While opening, everything that is missing or does not fit together is damage as well.
fn open_error(error: rocksdb::Error) -> ImageError {
    let text = error.as_ref();
    match error.kind() {
        ErrorKind::IOError if is_full(&error) => ImageError::Full(error.into()),
        ErrorKind::IOError if text.contains("lock") => ImageError::InUse(error.into()),
        ErrorKind::IOError if !text.contains("No such file") => ImageError::Failed(error.into()),
        _ => ImageError::Damaged(error.into()),
    }
}

/// RocksDB hands errors out as text: these are the operating system's words.
fn is_full(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}
