//! The shared tail: the newest batches of a log as refcounted bytes, for readers at its end.
//!
//! It is kept only while somebody reads near the end: a read there keeps it for the next
//! [`INTEREST_BYTES`] of appends, so a partition that nobody tails pays nothing. All tails of a
//! log directory share one byte budget; a tail that finds it spent drops its own oldest batches.
//! Invariant: the batches are contiguous and the last one ends at the log end.
//! Small batches are copied, so that they do not pin the socket buffer they came in, and the
//! smallest share chunks. Deliberately absent: eviction across logs (it would need their locks),
//! time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use ottla_protocol::batch::RecordBatch;
use ottla_protocol::types::Offset;

use crate::sync::{AtomicU64, AtomicUsize};

/// How much may be appended after the last read near the end before the tail is dropped.
const INTEREST_BYTES: u64 = 4 << 20;
/// The most one log keeps.
const TAIL_BYTES_MAX: usize = 2 << 20;
/// Batches below this are copied: the frames of the smallest share one buffer per connection.
const COPY_BELOW_BYTES: usize = 64 << 10;
/// Batches below this are copied into a chunk that they share.
const SHARE_BELOW_BYTES: usize = 16 << 10;
const CHUNK_BYTES: usize = 64 << 10;
/// Neighbours below this are joined in an answer: a piece has a cost of its own.
const JOIN_BELOW_BYTES: usize = 2 << 10;

/// The byte budget that tails share.
#[derive(Debug)]
pub struct TailBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl TailBudget {
    pub fn new(limit_bytes: usize) -> Arc<TailBudget> {
        Arc::new(TailBudget {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
        })
    }

    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Relaxed)
    }

    fn reserve(&self, bytes: usize) -> bool {
        self.used_bytes
            .fetch_update(Relaxed, Relaxed, |used| {
                let total = used.checked_add(bytes)?;
                (total <= self.limit_bytes).then_some(total)
            })
            .is_ok()
    }

    fn release(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Relaxed);
    }
}

#[derive(Debug)]
struct TailBatch {
    base_offset: Offset,
    last_offset: Offset,
    bytes: Bytes,
}

/// One log's tail.
#[derive(Debug)]
pub(crate) struct Tail {
    budget: Arc<TailBudget>,
    batches: VecDeque<TailBatch>,
    bytes: usize,
    chunk: BytesMut,
    appended_bytes: u64,
    /// The tail is kept until `appended_bytes` reaches this.
    wanted_until: AtomicU64,
}

/// What a read found in the tail.
pub(crate) struct TailRead {
    pub(crate) data: Vec<Bytes>,
    pub(crate) size_bytes: u32,
    pub(crate) next_offset: Offset,
}

impl Tail {
    pub(crate) fn new(budget: Arc<TailBudget>) -> Tail {
        Tail {
            budget,
            batches: VecDeque::new(),
            bytes: 0,
            chunk: BytesMut::new(),
            appended_bytes: 0,
            wanted_until: AtomicU64::new(0),
        }
    }

    /// Somebody reads at the end of the log: the next appends are worth keeping.
    pub(crate) fn want(&self) {
        self.wanted_until
            .store(self.appended_bytes + INTEREST_BYTES, Relaxed);
    }

    /// Takes the batch that was just written at the log end.
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        let len = batch.size_bytes();
        self.appended_bytes += len as u64;
        if self.appended_bytes > self.wanted_until.load(Relaxed) {
            self.clear();
            return;
        }
        while self.bytes + len > TAIL_BYTES_MAX && self.drop_oldest() {}
        while !self.budget.reserve(len) {
            if !self.drop_oldest() {
                return;
            }
        }
        self.bytes += len;
        let header = *batch.header();
        let bytes = match len < COPY_BELOW_BYTES {
            true => self.copy(batch.bytes()),
            false => batch.freeze(),
        };
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        self.batches.push_back(TailBatch {
            base_offset,
            last_offset,
            bytes,
        });
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() >= SHARE_BELOW_BYTES {
            return Bytes::copy_from_slice(bytes);
        }
        if self.chunk.capacity() < bytes.len() {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.chunk.extend_from_slice(bytes);
        self.chunk.split().freeze()
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.batches.pop_front() else {
            return false;
        };
        self.bytes -= oldest.bytes.len();
        self.budget.release(oldest.bytes.len());
        true
    }

    pub(crate) fn clear(&mut self) {
        self.budget.release(self.bytes);
        self.bytes = 0;
        self.batches = VecDeque::new();
        self.chunk = BytesMut::new();
    }

    /// Whole batches from the one that contains `from`, below `upper`; `None` when the tail does
    /// not reach back to `from`.
    pub(crate) fn read(
        &self,
        from: Offset,
        max_bytes: u32,
        upper: Offset,
        at_least_one: bool,
    ) -> Option<TailRead> {
        if self
            .batches
            .front()
            .is_none_or(|first| first.base_offset > from)
        {
            return None;
        }
        self.want();
        let first = self
            .batches
            .partition_point(|batch| batch.last_offset < from);
        let mut read = TailRead {
            data: Vec::new(),
            size_bytes: 0,
            next_offset: from,
        };
        let mut take = 0;
        for batch in self.batches.range(first..) {
            let size = read.size_bytes as usize + batch.bytes.len();
            let fits = size <= max_bytes as usize || (take == 0 && at_least_one);
            if batch.last_offset >= upper || !fits {
                break;
            }
            take += 1;
            read.size_bytes = size as u32;
            read.next_offset = batch.last_offset.next();
        }
        read.data = joined(
            self.batches
                .range(first..first + take)
                .map(|batch| &batch.bytes),
        );
        Some(read)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The same bytes in fewer pieces: runs of small ones are copied together.
fn joined<'a>(pieces: impl Iterator<Item = &'a Bytes> + Clone) -> Vec<Bytes> {
    let mut out: Vec<Bytes> = Vec::with_capacity(pieces.clone().count().min(16));
    let mut run = BytesMut::new();
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let small = |bytes: &Bytes| bytes.len() < JOIN_BELOW_BYTES;
        let joins_next = pieces.peek().is_some_and(|next| small(next));
        if small(piece) && (!run.is_empty() || joins_next) {
            run.extend_from_slice(piece);
            continue;
        }
        if !run.is_empty() {
            out.push(run.split().freeze());
        }
        out.push(piece.clone());
    }
    if !run.is_empty() {
        out.push(run.freeze());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ottla_protocol::batch::BatchBuilder;
    use ottla_protocol::types::LeaderEpoch;

    use super::*;

    fn batch(offset: i64, payload_bytes: usize) -> RecordBatch {
        let value = vec![b'x'; payload_bytes];
        let mut builder = BatchBuilder::new();
        builder.append(0, None, Some(&value), &[]);
        let mut batch = builder.build().unwrap();
        batch.stamp(Offset(offset), LeaderEpoch(0));
        batch
    }

    fn read_all(tail: &Tail, from: i64) -> Option<(Vec<u8>, Offset)> {
        let read = tail.read(Offset(from), u32::MAX, Offset(i64::MAX), true)?;
        Some((read.data.concat(), read.next_offset))
    }

    #[test]
    fn nothing_is_kept_until_somebody_reads_at_the_end() {
        let budget = TailBudget::new(1 << 20);
        let mut tail = Tail::new(Arc::clone(&budget));
        tail.push(batch(0, 10));
        assert_eq!(budget.used_bytes(), 0);
        tail.want();
        tail.push(batch(1, 10));
        assert!(budget.used_bytes() > 0);
        assert!(read_all(&tail, 0).is_none());
        assert!(read_all(&tail, 1).is_some());
    }

    #[test]
    fn interest_ends_when_much_was_appended_and_nobody_came() {
        let budget = TailBudget::new(1 << 30);
        let mut tail = Tail::new(Arc::clone(&budget));
        tail.want();
        for offset in 0..100 {
            tail.push(batch(offset, 100 << 10));
        }
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn answers_are_whole_batches_below_the_bound_and_within_the_size() {
        let mut tail = Tail::new(TailBudget::new(1 << 20));
        tail.want();
        let mut wanted = Vec::new();
        for offset in 0..20 {
            let batch = batch(offset, 100);
            wanted.push(batch.bytes().to_vec());
            tail.push(batch);
        }
        let (all, next) = read_all(&tail, 3).unwrap();
        assert_eq!((all, next), (wanted[3..].concat(), Offset(20)));
        let size = wanted[0].len() as u32;
        let two = tail
            .read(Offset(0), size * 2 + 5, Offset(20), true)
            .unwrap();
        assert_eq!((two.size_bytes, two.next_offset), (size * 2, Offset(2)));
        let none = tail.read(Offset(0), size - 1, Offset(20), false).unwrap();
        assert_eq!((none.size_bytes, none.next_offset), (0, Offset(0)));
        let one = tail.read(Offset(0), 1, Offset(20), true).unwrap();
        assert_eq!(one.next_offset, Offset(1));
        let bounded = tail.read(Offset(0), u32::MAX, Offset(5), true).unwrap();
        assert_eq!(bounded.next_offset, Offset(5));
        let beyond = tail.read(Offset(20), u32::MAX, Offset(20), true).unwrap();
        assert_eq!(beyond.size_bytes, 0);
    }

    #[test]
    fn a_spent_budget_drops_the_oldest_batches() {
        let budget = TailBudget::new(10_000);
        let mut tail = Tail::new(Arc::clone(&budget));
        tail.want();
        for offset in 0..100 {
            tail.push(batch(offset, 1_000));
            assert!(budget.used_bytes() <= 10_000);
        }
        assert!(read_all(&tail, 90).is_none());
        assert!(read_all(&tail, 95).is_some());
        drop(tail);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn large_batches_are_shared_and_small_neighbours_joined() {
        let mut tail = Tail::new(TailBudget::new(1 << 20));
        tail.want();
        for offset in 0..4 {
            tail.push(batch(offset, 50));
        }
        tail.push(batch(4, 40 << 10));
        tail.push(batch(5, 50));
        let read = tail.read(Offset(0), u32::MAX, Offset(6), true).unwrap();
        assert_eq!(read.data.len(), 3);
        assert_eq!(read.data[1].as_ptr(), tail.batches[4].bytes.as_ptr());
    }
}
