//! What is in one file of a log directory, entry by entry, whatever its state: for people who look.
//!
//! Nothing is refused here. Entries are told as they are; what cannot be read is told as damage,
//! with its place, and reading goes on behind it.

use std::io;

use bytes::Bytes;
use ottla_protocol::batch::{BatchHeader, RecordBatchView};
use ottla_protocol::record::{Record, RecordError, RecordLimits, Records};
use ottla_protocol::types::{Offset, ProducerId};

use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::log::error::Fault;
use crate::log::producers::snapshot;
use crate::log::scan::{Scan, ScanError, WALK_BYTES};
use crate::log::{AbortedTransaction, ProducerBatch};

/// What stands in a segment file, in order.
#[derive(Clone, Debug)]
pub enum Item {
    Batch {
        position: u64,
        header: BatchHeader,
        crc_is_valid: bool,
    },
    /// Bytes that are no batch, and where they end.
    Damage {
        position: u64,
        until: u64,
        fault: Fault,
    },
    /// Zeros up to the end of the file: written ahead, no damage.
    Zeros { position: u64, until: u64 },
}

/// Tells `visit` of everything in a segment; it answers whether to go on.
pub fn segment(
    file: &dyn DiskFile,
    base: Offset,
    visit: &mut dyn FnMut(&Item) -> bool,
) -> io::Result<()> {
    let size = file.len_bytes()?;
    let mut buffer = vec![0; WALK_BYTES];
    let mut scan = Scan::new(file, 0, size, base, &mut buffer);
    loop {
        let item = match scan.next() {
            Ok(None) => return Ok(()),
            Ok(Some(found)) => Item::Batch {
                position: found.position,
                header: found.header,
                crc_is_valid: scan.crc_is_valid(&found)?,
            },
            Err(ScanError::Io(error)) => return Err(error),
            Err(ScanError::Bad { position, .. }) if scan.is_zero_from(position)? => {
                visit(&Item::Zeros {
                    position,
                    until: size,
                });
                return Ok(());
            }
            Err(ScanError::Bad { position, fault }) => {
                let found = scan.find_valid(position + 1)?;
                let until = found.map_or(size, |found| found.position);
                scan.position = until;
                Item::Damage {
                    position,
                    until,
                    fault,
                }
            }
        };
        if !visit(&item) {
            return Ok(());
        }
    }
}

/// The records of the batch at a position.
pub fn records(
    file: &dyn DiskFile,
    position: u64,
    header: &BatchHeader,
) -> io::Result<Result<Vec<Record>, RecordError>> {
    let end = position + header.size_bytes() as u64;
    let bytes: Bytes = read_exact_at(file, position..end)?;
    Ok(open_records(&bytes))
}

fn open_records(bytes: &[u8]) -> Result<Vec<Record>, RecordError> {
    let view = RecordBatchView::parse(bytes)?;
    let mut records = Records::open(view, RecordLimits::default())?;
    let mut all = Vec::new();
    while let Some(record) = records.next_ref() {
        all.push(record?.to_owned());
    }
    Ok(all)
}

/// Relative offset and position of each entry.
pub fn offset_index(bytes: &[u8]) -> Vec<(u32, u32)> {
    let (entries, _) = bytes.as_chunks::<8>();
    entries
        .iter()
        .map(|entry| (u32_at(entry, 0), u32_at(entry, 4)))
        .collect()
}

/// Timestamp and relative offset of each entry.
pub fn time_index(bytes: &[u8]) -> Vec<(i64, u32)> {
    let (entries, _) = bytes.as_chunks::<12>();
    entries
        .iter()
        .map(|entry| (i64_at(entry, 0), u32_at(entry, 8)))
        .collect()
}

pub fn transaction_index(bytes: &[u8]) -> Vec<AbortedTransaction> {
    let (entries, _) = bytes.as_chunks::<34>();
    let entry = |entry: &[u8; 34]| AbortedTransaction {
        producer_id: ProducerId(i64_at(entry, 2)),
        first_offset: Offset(i64_at(entry, 10)),
        last_offset: Offset(i64_at(entry, 18)),
        last_stable_offset: Offset(i64_at(entry, 26)),
    };
    entries.iter().map(entry).collect()
}

/// One producer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub producer_id: ProducerId,
    pub epoch: i16,
    pub coordinator_epoch: i32,
    pub last_timestamp: i64,
    pub transaction_first_offset: Option<Offset>,
    pub batches: Vec<ProducerBatch>,
}

/// The producers in a snapshot of `offset`; `None` when it is damaged.
pub fn producer_snapshot(bytes: &[u8], offset: Offset) -> Option<Vec<Producer>> {
    let producers = snapshot::decode(bytes, offset)?;
    let all = producers.iter().map(|(producer_id, entry)| Producer {
        producer_id,
        epoch: entry.epoch,
        coordinator_epoch: entry.coordinator_epoch,
        last_timestamp: entry.last_timestamp,
        transaction_first_offset: entry.current_transaction_first_offset,
        batches: entry.batches().to_vec(),
    });
    Some(all.collect())
}

/// Every file below a directory, in order of their names; partitions of no depth beyond one.
pub fn files(disk: &dyn Disk, dir: &str) -> io::Result<Vec<String>> {
    let join = |name: &str| match dir {
        "" => name.to_owned(),
        dir => format!("{dir}/{name}"),
    };
    let mut found = Vec::new();
    for entry in disk.list(dir)? {
        match entry.is_dir {
            false => found.push(join(&entry.name)),
            true if dir.is_empty() => found.extend(files(disk, &entry.name)?),
            true => {}
        }
    }
    Ok(found)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    (i64::from(u32_at(bytes, at)) << 32) | i64::from(u32_at(bytes, at + 4))
}
