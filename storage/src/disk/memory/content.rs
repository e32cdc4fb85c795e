//! One file of the memory disk: its visible bytes, its durable bytes, and the changes between.
//!
//! Invariant: `durable` with all of `pending` applied in order equals `visible`, until a sync
//! fails; from then on `visible` may show bytes that no later sync will save.

use std::io::IoSlice;

use super::faults::{CrashPlan, Fate};

pub(super) struct Content {
    visible: Vec<u8>,
    /// Bytes reserved by preallocation; counts against the capacity.
    reserved_bytes: u64,
    /// `None` on a disk without a fault model.
    durable: Option<Durable>,
}

#[derive(Default)]
struct Durable {
    bytes: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write {
        sequence: u64,
        position: usize,
        bytes: Vec<u8>,
    },
    SetLen {
        sequence: u64,
        len: usize,
    },
}

impl Content {
    pub(super) fn new(tracked: bool) -> Content {
        let durable = tracked.then(Durable::default);
        Content {
            visible: Vec::new(),
            reserved_bytes: 0,
            durable,
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.visible.len() as u64
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.len_bytes().max(self.reserved_bytes)
    }

    pub(super) fn read(&self, position: u64, into: &mut [u8]) -> usize {
        let start = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(self.visible.len());
        let available = &self.visible[start..];
        let len = available.len().min(into.len());
        into[..len].copy_from_slice(&available[..len]);
        len
    }

    pub(super) fn write(
        &mut self,
        position: u64,
        parts: &[IoSlice<'_>],
        len: usize,
        sequence: u64,
    ) {
        let start = position as usize;
        let mut at = start;
        if let Some(durable) = &mut self.durable {
            let bytes = joined(parts);
            put(&mut self.visible, at, &bytes);
            durable.pending.push(Pending::Write {
                sequence,
                position: start,
                bytes,
            });
            return;
        }
        self.visible
            .reserve((start + len).saturating_sub(self.visible.len()));
        for part in parts {
            put(&mut self.visible, at, part);
            at += part.len();
        }
    }

    pub(super) fn reserve(&mut self, len_bytes: u64) {
        self.reserved_bytes = self.reserved_bytes.max(len_bytes);
    }

    pub(super) fn truncate(&mut self, len_bytes: u64, sequence: u64) {
        let len = len_bytes as usize;
        self.visible.resize(len, 0);
        self.reserved_bytes = self.reserved_bytes.min(len_bytes);
        if let Some(durable) = &mut self.durable {
            durable.pending.push(Pending::SetLen { sequence, len });
        }
    }

    pub(super) fn sync(&mut self) {
        if let Some(durable) = &mut self.durable {
            for change in std::mem::take(&mut durable.pending) {
                change.apply(&mut durable.bytes, Fate::Keep);
            }
        }
    }

    /// A failed sync: some of the pending changes reached the disk, and none is pending any more.
    pub(super) fn lose_unsynced(&mut self, plan: &mut CrashPlan) {
        if let Some(durable) = &mut self.durable {
            durable.settle(plan);
        }
    }

    /// The kernel forgets pages that it need not write; they are read again from the disk.
    pub(super) fn forget_clean(&mut self) {
        let Some(durable) = &self.durable else {
            return;
        };
        // The length is the inode's and stays; what the disk never got reads as zeroes.
        let mut again = durable.bytes.clone();
        for change in &durable.pending {
            change.clone().apply(&mut again, Fate::Keep);
        }
        again.resize(self.visible.len(), 0);
        self.visible = again;
    }

    /// A power cut: what is visible afterwards is what had reached the disk.
    pub(super) fn crash(&mut self, plan: &mut CrashPlan) {
        if let Some(durable) = &mut self.durable {
            durable.settle(plan);
            self.visible.clone_from(&durable.bytes);
        }
    }

    pub(super) fn overwrite(&mut self, position: u64, bytes: &[u8]) {
        put(&mut self.visible, position as usize, bytes);
        if let Some(durable) = &mut self.durable {
            for change in &mut durable.pending {
                change.overwrite(position as usize, bytes);
            }
            let end = durable.bytes.len();
            let start = (position as usize).min(end);
            let len = bytes.len().min(end - start);
            durable.bytes[start..start + len].copy_from_slice(&bytes[..len]);
        }
    }
}

impl Durable {
    fn settle(&mut self, plan: &mut CrashPlan) {
        for change in std::mem::take(&mut self.pending) {
            let fate = plan.fate(change.sequence());
            change.apply(&mut self.bytes, fate);
        }
    }
}

impl Pending {
    fn sequence(&self) -> u64 {
        match self {
            Pending::Write { sequence, .. } | Pending::SetLen { sequence, .. } => *sequence,
        }
    }

    fn apply(self, to: &mut Vec<u8>, fate: Fate) {
        match (self, fate) {
            (_, Fate::Drop) => {}
            (Pending::SetLen { len, .. }, _) => to.resize(len, 0),
            (
                Pending::Write {
                    position, bytes, ..
                },
                Fate::Keep,
            ) => put(to, position, &bytes),
            (
                Pending::Write {
                    position, bytes, ..
                },
                Fate::Tear { unit, mut coin },
            ) => {
                let mut at = 0;
                while at < bytes.len() {
                    let to_boundary = unit - (position + at) % unit;
                    let end = (at + to_boundary).min(bytes.len());
                    if coin.flip() {
                        put(to, position + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            (
                Pending::Write {
                    position, bytes, ..
                },
                Fate::Grow,
            ) => {
                to.resize(to.len().max(position + bytes.len()), 0);
            }
        }
    }

    fn overwrite(&mut self, position: usize, with: &[u8]) {
        if let Pending::Write {
            position: start,
            bytes,
            ..
        } = self
        {
            let from = position.max(*start);
            let to = (position + with.len()).min(*start + bytes.len());
            if from < to {
                bytes[from - *start..to - *start]
                    .copy_from_slice(&with[from - position..to - position]);
            }
        }
    }
}

pub(super) fn joined(parts: &[IoSlice<'_>]) -> Vec<u8> {
    parts
        .iter()
        .map(|part| &**part)
        .collect::<Vec<&[u8]>>()
        .concat()
}

/// Writes at a position, filling a gap before it with zeroes, as a file system does.
fn put(to: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if position == to.len() {
        to.extend_from_slice(bytes);
    } else {
        if to.len() < end {
            to.resize(end, 0);
        }
        to[position..end].copy_from_slice(bytes);
    }
}
