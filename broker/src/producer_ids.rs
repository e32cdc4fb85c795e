//! Producer ids for idempotent producers, handed out of blocks that the controller gave this
//! broker. A block is asked for when the last one is used up; ids of a block that a restart cuts
//! short are lost, never reused.

use std::collections::VecDeque;

use ottla_protocol::types::ProducerId;
use parking_lot::Mutex;

/// The ids this broker may still hand out.
#[derive(Debug, Default)]
pub struct ProducerIds {
    blocks: Mutex<VecDeque<Block>>,
}

#[derive(Debug)]
struct Block {
    next: i64,
    end: i64,
}

impl ProducerIds {
    /// `None` when a new block must be asked for.
    pub fn take(&self) -> Option<ProducerId> {
        let mut blocks = self.blocks.lock();
        let block = blocks.front_mut()?;
        let id = ProducerId(block.next);
        block.next += 1;
        if block.next == block.end {
            blocks.pop_front();
        }
        Some(id)
    }

    /// Adds a block that the controller allocated to this broker and nobody else.
    pub fn add(&self, first: ProducerId, count: i32) {
        let Some(end) = first.0.checked_add(i64::from(count)) else {
            return;
        };
        if count > 0 && first.0 >= 0 {
            self.blocks.lock().push_back(Block { next: first.0, end });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_handed_out_once_across_blocks() {
        let ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.add(ProducerId(10), 2);
        ids.add(ProducerId(50), 1);
        let taken: Vec<_> = std::iter::from_fn(|| ids.take()).map(|id| id.0).collect();
        assert_eq!(taken, [10, 11, 50]);
        ids.add(ProducerId(i64::MAX), 2);
        ids.add(ProducerId(5), 0);
        assert_eq!(ids.take(), None);
    }
}
