//! The file form of the producer state: Kafka's `.snapshot`, version 1, CRC-32C over the entries.
//!
//! Kafka keeps one batch per producer there, so that after its restart a retry older than the last
//! batch is an error. We append the older batches of the ring behind Kafka's entries, still under
//! the CRC: Kafka's reader ignores what follows the entries, ours takes it if it is there.
//!
//! A file that breaks a rule is refused as a whole (the state is rebuilt from the log instead).

use bytes::{Buf, BufMut};
use ottla_protocol::types::Offset;

use super::{ProducerBatch, ProducerEntry, Producers, RING_BATCHES};

const VERSION: i16 = 1;
/// Version and CRC.
const PREFIX_BYTES: usize = 6;
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
/// "ottla rings", version 1.
const RINGS_MAGIC: u32 = 0x6f74_7201;
const RING_HEAD_BYTES: usize = 8 + 1;
const RING_ENTRY_BYTES: usize = 4 + 8 + 4 + 8;

/// The file for a log end offset; which one is in the file's name only.
pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + 8 + producers.len() * 2 * ENTRY_BYTES);
    out.put_i16(VERSION);
    out.put_u32(0);
    out.put_i32(producers.len() as i32);
    for (id, entry) in producers.iter() {
        let last = entry.batches().last();
        out.put_i64(id.0);
        out.put_i16(entry.epoch);
        out.put_i32(last.map_or(-1, |batch| batch.last_sequence));
        out.put_i64(last.map_or(-1, |batch| batch.last_offset.0));
        out.put_i32(last.map_or(0, |batch| batch.offset_delta));
        out.put_i64(entry.last_timestamp);
        out.put_i32(entry.coordinator_epoch);
        out.put_i64(
            entry
                .current_transaction_first_offset
                .map_or(-1, |offset| offset.0),
        );
    }
    encode_rings(producers, &mut out);
    let crc = crc32c::crc32c(&out[PREFIX_BYTES..]);
    out[2..PREFIX_BYTES].copy_from_slice(&crc.to_be_bytes());
    out
}

fn encode_rings(producers: &Producers, out: &mut Vec<u8>) {
    // The last batch carries its own timestamp only here: Kafka's field is the producer's, which
    // a marker moves on.
    let rings = || {
        producers
            .iter()
            .filter(|(_, entry)| !entry.batches().is_empty())
    };
    out.put_u32(RINGS_MAGIC);
    out.put_u32(rings().count() as u32);
    for (id, entry) in rings() {
        out.put_i64(id.0);
        out.put_u8(entry.batches().len() as u8);
        for batch in entry.batches() {
            out.put_i32(batch.last_sequence);
            out.put_i64(batch.last_offset.0);
            out.put_i32(batch.offset_delta);
            out.put_i64(batch.timestamp);
        }
    }
}

/// `None` when the file is not a sound snapshot of a log that ends at `end`.
pub(crate) fn decode(bytes: &[u8], end: Offset) -> Option<Producers> {
    let mut buf = bytes;
    if buf.len() < PREFIX_BYTES + 4 || buf.get_i16() != VERSION {
        return None;
    }
    if buf.get_u32() != crc32c::crc32c(&bytes[PREFIX_BYTES..]) {
        return None;
    }
    let count = usize::try_from(buf.get_i32()).ok()?;
    if count > buf.len() / ENTRY_BYTES {
        return None;
    }
    let mut producers = Producers::default();
    for _ in 0..count {
        let (id, entry) = decode_entry(&mut buf, end)?;
        producers.restore(id, entry)?;
    }
    decode_rings(buf, end, &mut producers)?;
    Some(producers)
}

/// The caller has checked that the bytes are there.
fn decode_entry(buf: &mut &[u8], end: Offset) -> Option<(i64, ProducerEntry)> {
    let id = buf.get_i64();
    let mut entry = ProducerEntry::new(buf.get_i16());
    let last_sequence = buf.get_i32();
    let last_offset = Offset(buf.get_i64());
    let offset_delta = buf.get_i32();
    entry.last_timestamp = buf.get_i64();
    entry.coordinator_epoch = buf.get_i32();
    let first = Offset(buf.get_i64());
    if id < 0 || last_offset >= end || first >= end {
        return None;
    }
    entry.current_transaction_first_offset = (first.0 >= 0).then_some(first);
    if last_offset.0 >= 0 {
        let timestamp = entry.last_timestamp;
        let batch = ProducerBatch {
            last_sequence,
            last_offset,
            offset_delta,
            timestamp,
        };
        sound(&batch).then(|| entry.push(batch))?;
    }
    Some((id, entry))
}

/// Kafka's files end before this part; anything else than a sound one is refused.
fn decode_rings(mut buf: &[u8], end: Offset, producers: &mut Producers) -> Option<()> {
    if buf.is_empty() {
        return Some(());
    }
    if buf.len() < 8 || buf.get_u32() != RINGS_MAGIC {
        return None;
    }
    for _ in 0..buf.get_u32() {
        if buf.len() < RING_HEAD_BYTES {
            return None;
        }
        let entry = producers.entries.get_mut(&buf.get_i64())?;
        let count = usize::from(buf.get_u8());
        if count > RING_BATCHES || buf.len() < count * RING_ENTRY_BYTES {
            return None;
        }
        entry.ring_len = 0;
        let mut previous = Offset(-1);
        for _ in 0..count {
            let batch = ProducerBatch {
                last_sequence: buf.get_i32(),
                last_offset: Offset(buf.get_i64()),
                offset_delta: buf.get_i32(),
                timestamp: buf.get_i64(),
            };
            if !sound(&batch) || batch.last_offset <= previous || batch.last_offset >= end {
                return None;
            }
            previous = batch.last_offset;
            entry.push(batch);
        }
    }
    buf.is_empty().then_some(())
}

fn sound(batch: &ProducerBatch) -> bool {
    batch.last_sequence >= -1
        && batch.offset_delta >= 0
        && i64::from(batch.offset_delta) <= batch.last_offset.0
}
