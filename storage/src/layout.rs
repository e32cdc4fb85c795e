//! What lies where in a log directory: names of directories and files, and the small files that
//! say whose directory it is. Kafka's layout wherever Kafka has one, so that its tools can look.
//!
//! ```text
//! .lock                              held by the one process that uses the directory
//! meta.properties                    cluster, node and directory id (Kafka's format)
//! ottla.format                       version of this layout; Kafka's directories have none
//! .kafka_cleanshutdown               present only after a clean shutdown
//! *-checkpoint                       offsets of all partitions: see checkpoint.rs
//! ottla-metadata/                    the controller's log; in one of the directories
//! ottla.directories                  beside it: which directories the broker had at its last start
//! ottla-images/                      RocksDB: images of internal topics; may be deleted
//! kafka-cluster-metadata/            Kafka's metadata log, of a directory that was adopted
//! TOPIC-PARTITION/                   one partition: segments, partition.metadata, ...
//! TOPIC-PARTITION.UUID-delete/       a deleted partition whose files are still to be removed
//! ```
//!
//! Names are parsed as strictly as they are written: what this module would not have produced is
//! [`DirName::Other`], and nobody touches it.

use std::io;

use ottla_protocol::topic_name;
use ottla_protocol::types::{Offset, TopicId, TopicPartition};
use uuid::Uuid;

use crate::disk::{Disk, LockError, read_file, write_file_atomically};

mod adopt;
mod directories;
mod identity;
mod properties;

#[cfg(test)]
mod tests;

pub use adopt::{KAFKA_METADATA_DIR, KAFKA_METADATA_KEPT, Owner, adopt, adopt_beside, owner};
pub use directories::{DIRECTORIES, KnownDirectory, read_directories, write_directories};
pub use identity::{
    DirectoryId, Identity, LogDir, NewIds, OpenError, Wanted, is_somebodys, open, prepare,
};

pub const META_PROPERTIES: &str = "meta.properties";
pub const FORMAT_STAMP: &str = "ottla.format";
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub const CONTROLLER_DIR: &str = "ottla-metadata";
pub const IMAGES_DIR: &str = "ottla-images";
pub const PARTITION_METADATA: &str = "partition.metadata";

/// The version of this layout that this build writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The longest name a directory may have.
const NAME_SIZE_BYTES_MAX: usize = 255;
const SMALL_FILE_SIZE_BYTES_MAX: u64 = 64 << 10;

/// Why a log directory cannot be used. The caller knows which directory it is.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("it belongs to cluster {found}, this broker to cluster {wanted}")]
    OtherCluster { found: String, wanted: String },
    #[error("it belongs to node {found}, this is node {wanted}")]
    OtherNode { found: i32, wanted: i32 },
    #[error("it has format {found}; this build knows formats up to {FORMAT_VERSION}")]
    NewerFormat { found: u32 },
    #[error("it is empty, and a directory that is in use was expected")]
    Empty,
    #[error(
        "it was written by Apache Kafka ({META_PROPERTIES} without {FORMAT_STAMP}); \
         `ottla storage adopt` takes it over"
    )]
    KafkaDirectory,
    #[error("{file}: line {line}: {problem}")]
    Malformed {
        file: String,
        line: u32,
        problem: &'static str,
    },
    #[error(transparent)]
    Locked(#[from] LockError),
    #[error("it is not writable: {0}")]
    NotWritable(#[source] io::Error),
    #[error("its disk is full: {0}")]
    Full(#[source] io::Error),
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
}

impl LayoutError {
    fn io(file: &str, source: io::Error) -> LayoutError {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem => LayoutError::NotWritable(source),
            StorageFull | QuotaExceeded => LayoutError::Full(source),
            _ => LayoutError::Io {
                file: file.to_owned(),
                source,
            },
        }
    }
}

/// What the name of a directory in a log directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirName {
    Partition(TopicPartition),
    /// To be removed. The name of a long topic is cut, so it does not say which partition it was.
    Deleted,
    /// A partition on its way from another log directory, unfinished (Kafka's).
    Future,
    /// A partition that Kafka found without metadata for it.
    Stray,
    Other,
}

pub fn partition_dir(partition: &TopicPartition) -> String {
    partition.to_string()
}

/// Where a deleted partition waits for its files to be removed; `unique` tells it from earlier
/// ones of the same name. Long topic names are cut to what a file system allows, as Kafka does.
pub fn deleted_dir(partition: &TopicPartition, unique: Uuid) -> String {
    let suffix = format!("-{}.{}-delete", partition.partition, unique.simple());
    let topic = &*partition.topic;
    // Topic names are ASCII, so any cut is between characters.
    let len = topic.len().min(NAME_SIZE_BYTES_MAX - suffix.len());
    format!("{}{suffix}", topic.get(..len).unwrap_or_default())
}

/// Where the copy of a partition is made that is on its way from another log directory; Kafka's
/// name, shortened as that of [`deleted_dir`].
pub fn future_dir(partition: &TopicPartition, unique: Uuid) -> String {
    let suffix = format!("-{}.{}-future", partition.partition, unique.simple());
    let topic = &*partition.topic;
    let len = topic.len().min(NAME_SIZE_BYTES_MAX - suffix.len());
    format!("{}{suffix}", topic.get(..len).unwrap_or_default())
}

/// The partition's number in a name of [`future_dir`]; the topic may be cut.
pub fn future_index(name: &str) -> Option<i32> {
    let (partition, _) = name.strip_suffix("-future")?.rsplit_once('.')?;
    let (_, digits) = partition.rsplit_once('-')?;
    digits.parse().ok().filter(|index| *index >= 0)
}

pub fn parse_dir(name: &str) -> DirName {
    if let Some(partition) = parse_partition(name) {
        return DirName::Partition(partition);
    }
    let Some((rest, kind)) = name.rsplit_once('-') else {
        return DirName::Other;
    };
    let Some((partition, unique)) = rest.rsplit_once('.') else {
        return DirName::Other;
    };
    if parse_partition(partition).is_none() || Uuid::try_parse(unique).is_err() {
        return DirName::Other;
    }
    match kind {
        "delete" => DirName::Deleted,
        "future" => DirName::Future,
        "stray" => DirName::Stray,
        _ => DirName::Other,
    }
}

fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, digits) = name.rsplit_once('-')?;
    let partition: i32 = digits.parse().ok()?;
    let canonical = partition >= 0 && digits == partition.to_string();
    (canonical && topic_name::validate(topic).is_ok())
        .then(|| TopicPartition::new(topic, partition))
}

/// The files of a segment, named after its first offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentFile {
    Log,
    OffsetIndex,
    TimeIndex,
    TransactionIndex,
    /// State of the producers at that offset, not part of the segment that starts there.
    ProducerSnapshot,
}

impl SegmentFile {
    pub const ALL: [SegmentFile; 5] = [
        SegmentFile::Log,
        SegmentFile::OffsetIndex,
        SegmentFile::TimeIndex,
        SegmentFile::TransactionIndex,
        SegmentFile::ProducerSnapshot,
    ];

    pub fn suffix(self) -> &'static str {
        match self {
            SegmentFile::Log => ".log",
            SegmentFile::OffsetIndex => ".index",
            SegmentFile::TimeIndex => ".timeindex",
            SegmentFile::TransactionIndex => ".txnindex",
            SegmentFile::ProducerSnapshot => ".snapshot",
        }
    }

    /// `00000000000000000042.log`
    pub fn name(self, offset: Offset) -> String {
        format!("{:020}{}", offset.0, self.suffix())
    }

    /// The reverse of [`SegmentFile::name`]; `None` for everything else.
    pub fn parse(name: &str) -> Option<(Offset, SegmentFile)> {
        let (digits, _) = name.split_at_checked(20)?;
        let digits_only = digits.bytes().all(|byte| byte.is_ascii_digit());
        let offset = Offset(digits.parse().ok().filter(|_| digits_only)?);
        let file = SegmentFile::ALL
            .into_iter()
            .find(|file| name[20..] == *file.suffix())?;
        Some((offset, file))
    }
}

/// The file that says which topic of that name a partition directory belongs to.
pub(crate) fn format_partition_metadata(topic: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic}")
}

/// `None` when there is no such file.
pub fn read_partition_metadata(disk: &dyn Disk, dir: &str) -> Result<Option<TopicId>, LayoutError> {
    let path = format!("{dir}/{PARTITION_METADATA}");
    let Some(content) = read_small(disk, &path)? else {
        return Ok(None);
    };
    let malformed = |line, problem| LayoutError::Malformed {
        file: path.clone(),
        line,
        problem,
    };
    let text = std::str::from_utf8(&content).map_err(|_| malformed(1, "not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some("version: 0") {
        return Err(malformed(1, "expected \"version: 0\""));
    }
    let id = lines
        .next()
        .and_then(|line| line.strip_prefix("topic_id: "));
    match (id.and_then(TopicId::parse), lines.next()) {
        (Some(id), None) if !id.is_zero() => Ok(Some(id)),
        (_, Some(_)) => Err(malformed(3, "expected the end of the file")),
        _ => Err(malformed(2, "expected \"topic_id: \" and an id")),
    }
}

/// Leaves the marker of a clean shutdown: every log is flushed and checkpointed.
pub fn write_clean_shutdown(disk: &dyn Disk, broker_epoch: i64) -> Result<(), LayoutError> {
    let content = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    write_file_atomically(disk, CLEAN_SHUTDOWN, content.as_bytes())
        .map_err(|error| LayoutError::io(CLEAN_SHUTDOWN, error))
}

/// Whether the last shutdown was clean. The marker is gone, durably, when this returns: from the
/// first write on, a crash must not look like a clean shutdown.
pub fn take_clean_shutdown(disk: &dyn Disk) -> Result<bool, LayoutError> {
    let take = || {
        let clean = disk.exists(CLEAN_SHUTDOWN)?;
        if clean {
            disk.remove(CLEAN_SHUTDOWN)?;
            disk.sync_dir("")?;
        }
        Ok(clean)
    };
    take().map_err(|error| LayoutError::io(CLEAN_SHUTDOWN, error))
}

fn read_small(disk: &dyn Disk, path: &str) -> Result<Option<Vec<u8>>, LayoutError> {
    match read_file(disk, path, SMALL_FILE_SIZE_BYTES_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LayoutError::io(path, error)),
    }
}
