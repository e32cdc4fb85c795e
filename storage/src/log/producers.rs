//! What one log knows about idempotent and transactional producers: the last batches of each,
//! open transactions, and from these the first unstable offset.
//!
//! `check` decides about a client's batch and changes nothing; `replay` records a batch that is in
//! the log, whoever wrote it, so that appending, recovering and following keep equal states.
//! Invariants: a ring holds at most five batches of one epoch, oldest first; every open
//! transaction is known under its first offset and in its producer's entry. The number of entries
//! is bounded: the producers unheard of for longest are forgotten first, open transactions never.
//! Deliberately absent: files (see `snapshot`), coordinators, time (callers pass it).

use std::collections::BTreeMap;

use ottla_protocol::batch::BatchHeader;
use ottla_protocol::types::{Offset, ProducerId};
use thiserror::Error;

use super::control::EndTransaction;
use super::index::AbortedTransaction;

pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

/// How many batches are remembered per producer: a client keeps at most five in flight.
pub(crate) const RING_BATCHES: usize = 5;

/// A batch a producer wrote, as far as a duplicate must be told from a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerBatch {
    pub last_sequence: i32,
    pub last_offset: Offset,
    pub offset_delta: i32,
    pub timestamp: i64,
}

impl ProducerBatch {
    pub fn first_sequence(&self) -> i32 {
        sequence_minus(self.last_sequence, self.offset_delta)
    }

    pub fn first_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.offset_delta))
    }
}

/// One producer's state.
#[derive(Clone, Debug)]
pub struct ProducerEntry {
    pub epoch: i16,
    pub coordinator_epoch: i32,
    pub last_timestamp: i64,
    pub current_transaction_first_offset: Option<Offset>,
    ring: [ProducerBatch; RING_BATCHES],
    ring_len: u8,
}

impl PartialEq for ProducerEntry {
    /// What a forgotten batch left in the ring does not count.
    fn eq(&self, other: &ProducerEntry) -> bool {
        self.epoch == other.epoch
            && self.coordinator_epoch == other.coordinator_epoch
            && self.last_timestamp == other.last_timestamp
            && self.current_transaction_first_offset == other.current_transaction_first_offset
            && self.batches() == other.batches()
    }
}

impl Eq for ProducerEntry {}

impl ProducerEntry {
    fn new(epoch: i16) -> ProducerEntry {
        ProducerEntry {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            current_transaction_first_offset: None,
            ring: [ProducerBatch::default(); RING_BATCHES],
            ring_len: 0,
        }
    }

    /// The remembered batches, oldest first.
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.ring[..usize::from(self.ring_len)]
    }

    /// -1 when no batch is known.
    pub fn last_sequence(&self) -> i32 {
        self.batches()
            .last()
            .map_or(-1, |batch| batch.last_sequence)
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.ring_len = 0;
        }
    }

    fn push(&mut self, batch: ProducerBatch) {
        if usize::from(self.ring_len) == RING_BATCHES {
            self.ring.rotate_left(1);
            self.ring[RING_BATCHES - 1] = batch;
        } else {
            self.ring[usize::from(self.ring_len)] = batch;
            self.ring_len += 1;
        }
    }
}

/// What `check` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sequence {
    InOrder,
    /// The batch is in the log already.
    Duplicate(ProducerBatch),
}

/// Why a producer may not append this batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProducerError {
    #[error("sequence {got} does not follow {last}")]
    OutOfOrderSequence { got: i32, last: i32 },
    #[error("producer epoch {got} is older than {current}")]
    InvalidEpoch { got: i16, current: i16 },
    #[error("the batch does not fit the producer's transaction state")]
    InvalidTransactionState,
    #[error("coordinator epoch {got} is older than {current}")]
    CoordinatorFenced { got: i32, current: i32 },
}

/// A transaction whose marker is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CompletedTransaction {
    last_offset: Offset,
}

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    // Boxed: the nodes of the map stay small for the many logs with one producer or none.
    entries: BTreeMap<i64, Box<ProducerEntry>>,
    /// Open transactions by first offset.
    ongoing: BTreeMap<Offset, i64>,
    /// Completed transactions whose marker is not below the high watermark yet.
    unreplicated: BTreeMap<Offset, CompletedTransaction>,
}

impl Producers {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerEntry> {
        self.entries.get(&producer_id.0).map(|entry| &**entry)
    }

    /// Entries in order of their producer id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.entries
            .iter()
            .map(|(&id, entry)| (ProducerId(id), &**entry))
    }

    /// Decides about a batch with a producer id that wants to be appended by a leader.
    /// `sequenced`: false for a coordinator's own batches, of which only the epoch is checked.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        sequenced: bool,
    ) -> Result<Sequence, ProducerError> {
        let entry = self.get(header.producer_id);
        if let Some(entry) = entry {
            if sequenced && let Some(batch) = find_duplicate(entry, header) {
                return Ok(Sequence::Duplicate(batch));
            }
            if header.producer_epoch < entry.epoch {
                let (got, current) = (header.producer_epoch, entry.epoch);
                return Err(ProducerError::InvalidEpoch { got, current });
            }
            if sequenced {
                check_sequence(entry, header)?;
            }
        }
        let open = entry.is_some_and(|entry| entry.current_transaction_first_offset.is_some());
        // A client's transactional batch needs an open transaction; a coordinator opens them.
        if open != header.is_transactional() && (sequenced || open) {
            return Err(ProducerError::InvalidTransactionState);
        }
        Ok(Sequence::InOrder)
    }

    /// Decides about a transaction marker.
    pub(crate) fn check_marker(
        &self,
        header: &BatchHeader,
        marker: &EndTransaction,
    ) -> Result<(), ProducerError> {
        let Some(entry) = self.get(header.producer_id) else {
            return Ok(());
        };
        if header.producer_epoch < entry.epoch {
            let (got, current) = (header.producer_epoch, entry.epoch);
            return Err(ProducerError::InvalidEpoch { got, current });
        }
        if marker.coordinator_epoch < entry.coordinator_epoch {
            let (got, current) = (marker.coordinator_epoch, entry.coordinator_epoch);
            return Err(ProducerError::CoordinatorFenced { got, current });
        }
        Ok(())
    }

    /// Records a batch that is in the log; answers the transaction it aborted, if it did.
    pub(crate) fn replay(
        &mut self,
        header: &BatchHeader,
        marker: Option<&EndTransaction>,
        count_max: usize,
    ) -> Option<AbortedTransaction> {
        if !header.producer_id.is_some() {
            return None;
        }
        if header.is_control() {
            return self.replay_marker(header, marker?, count_max);
        }
        let last_offset = header.last_offset();
        let entry = self.entry(header, count_max);
        entry.push(ProducerBatch {
            last_sequence: header.last_sequence(),
            last_offset,
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        if header.is_transactional() && entry.current_transaction_first_offset.is_none() {
            entry.current_transaction_first_offset = Some(header.base_offset);
            self.ongoing
                .insert(header.base_offset, header.producer_id.0);
        }
        None
    }

    fn replay_marker(
        &mut self,
        header: &BatchHeader,
        marker: &EndTransaction,
        count_max: usize,
    ) -> Option<AbortedTransaction> {
        let entry = self.entry(header, count_max);
        entry.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = entry.current_transaction_first_offset.take()?;
        let last_offset = header.last_offset();
        self.ongoing.remove(&first_offset);
        self.unreplicated
            .insert(first_offset, CompletedTransaction { last_offset });
        // Of another producer by construction: this one has no open transaction any more.
        let next_open = self.ongoing.keys().next().copied();
        (!marker.committed).then(|| AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: next_open.unwrap_or_else(|| last_offset.next()),
        })
    }

    fn entry(&mut self, header: &BatchHeader, count_max: usize) -> &mut ProducerEntry {
        let id = header.producer_id.0;
        if self.entries.len() >= count_max && !self.entries.contains_key(&id) {
            self.forget_oldest(count_max);
        }
        let epoch = header.producer_epoch;
        let entry = self
            .entries
            .entry(id)
            .or_insert_with(|| Box::new(ProducerEntry::new(epoch)));
        entry.enter_epoch(epoch);
        entry.last_timestamp = header.max_timestamp;
        entry
    }

    /// Makes room in one pass for a sixteenth of all entries, so that it is rarely needed.
    fn forget_oldest(&mut self, count_max: usize) {
        let mut ages: Vec<(i64, i64)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.current_transaction_first_offset.is_none())
            .map(|(&id, entry)| (entry.last_timestamp, id))
            .collect();
        let drop = (count_max / 16).max(1).min(ages.len());
        ages.sort_unstable();
        for (_, id) in &ages[..drop] {
            self.entries.remove(id);
        }
    }

    /// Forgets producers without an open transaction that wrote nothing for `expiration_ms`.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            entry.current_transaction_first_offset.is_some()
                || now_ms.saturating_sub(entry.last_timestamp) < expiration_ms
        });
        before - self.entries.len()
    }

    /// The first offset of a transaction that is open, or complete but not below the high
    /// watermark.
    pub(crate) fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        let ongoing = self.ongoing.keys().next();
        let unreplicated = self
            .unreplicated
            .iter()
            .find(|(_, completed)| completed.last_offset >= high_watermark)
            .map(|(first, _)| first);
        ongoing.into_iter().chain(unreplicated).min().copied()
    }

    /// Forgets completed transactions that are replicated now.
    pub fn forget_replicated(&mut self, high_watermark: Offset) {
        if !self.unreplicated.is_empty() {
            self.unreplicated
                .retain(|_, completed| completed.last_offset >= high_watermark);
        }
    }

    /// Takes over what another state knows of transactions that are complete, and not replicated as
    /// far as it was told, with a marker below `end`: a snapshot does not say.
    pub(crate) fn keep_unreplicated(&mut self, of: &Producers, end: Offset) {
        let below = of
            .unreplicated
            .iter()
            .filter(|(_, one)| one.last_offset < end);
        self.unreplicated
            .extend(below.map(|(first, completed)| (*first, *completed)));
    }

    pub(crate) fn clear(&mut self) {
        *self = Producers::default();
    }

    /// Puts back an entry from a snapshot; `None` when it contradicts the others.
    fn restore(&mut self, id: i64, entry: ProducerEntry) -> Option<()> {
        if let Some(first) = entry.current_transaction_first_offset
            && self.ongoing.insert(first, id).is_some()
        {
            return None;
        }
        self.entries
            .insert(id, Box::new(entry))
            .is_none()
            .then_some(())
    }

    /// What must always hold; for debug builds, simulation and tests.
    pub fn check_invariants(&self) {
        for (first, id) in &self.ongoing {
            let entry = self
                .entries
                .get(id)
                .expect("an open transaction has a producer");
            assert_eq!(entry.current_transaction_first_offset, Some(*first));
        }
        for (id, entry) in &self.entries {
            if let Some(first) = entry.current_transaction_first_offset {
                assert_eq!(self.ongoing.get(&first), Some(id));
            }
            let grows = entry
                .batches()
                .windows(2)
                .all(|w| w[0].last_offset < w[1].last_offset);
            assert!(grows, "batches of producer {id} are in log order");
        }
    }
}

fn find_duplicate(entry: &ProducerEntry, header: &BatchHeader) -> Option<ProducerBatch> {
    if entry.epoch != header.producer_epoch {
        return None;
    }
    let last_sequence = header.last_sequence();
    let same = |batch: &&ProducerBatch| {
        batch.last_sequence == last_sequence && batch.first_sequence() == header.base_sequence
    };
    entry.batches().iter().find(same).copied()
}

fn check_sequence(entry: &ProducerEntry, header: &BatchHeader) -> Result<(), ProducerError> {
    let got = header.base_sequence;
    let last = match header.producer_epoch == entry.epoch {
        true => entry.last_sequence(),
        // A new epoch of a known producer starts over.
        false => -1,
    };
    let in_order = i64::from(got) == i64::from(last) + 1 || (got == 0 && last == i32::MAX);
    match in_order {
        true => Ok(()),
        false => Err(ProducerError::OutOfOrderSequence { got, last }),
    }
}

/// `sequence` - `delta`, where 0 follows `i32::MAX`.
fn sequence_minus(sequence: i32, delta: i32) -> i32 {
    match sequence < 0 {
        true => sequence,
        false => (i64::from(sequence) - i64::from(delta)).rem_euclid(1 << 31) as i32,
    }
}
