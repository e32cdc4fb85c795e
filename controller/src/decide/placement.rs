//! Where new replicas go. Leaders go round all brokers from a random start, so that leadership is
//! even; the further replicas of a partition follow in the same circle, at a distance that grows
//! with every turn, so that the load of a failed broker spreads over all others. Racks that a
//! partition does not use yet come first.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::types::BrokerId;
use rand::Rng;

use crate::image::BrokersImage;

/// One broker of the circle, with its rack as a small number; brokers without rack have one of
/// their own.
type Slot = (BrokerId, usize);

/// Brokers that may get replicas, neighbours in different racks as far as that goes.
pub(super) struct Circle {
    slots: Vec<Slot>,
    racks: usize,
}

impl Circle {
    pub(super) fn new(brokers: &BrokersImage) -> Circle {
        let mut by_rack = BTreeMap::<_, Vec<BrokerId>>::new();
        for broker in brokers.alive() {
            let own = broker.rack.is_none().then_some(broker.id);
            by_rack
                .entry((broker.rack.clone(), own))
                .or_default()
                .push(broker.id);
        }
        let racks: Vec<Vec<BrokerId>> = by_rack.into_values().collect();
        let depth = racks.iter().map(Vec::len).max().unwrap_or(0);
        let mut slots = Vec::new();
        for turn in 0..depth {
            for (rack, brokers) in racks.iter().enumerate() {
                slots.extend(brokers.get(turn).map(|broker| (*broker, rack)));
            }
        }
        Circle {
            slots,
            racks: racks.len(),
        }
    }

    /// Number of brokers.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Replicas of `partitions` partitions, the first of which is partition `first`.
    /// There must be at least `replication_factor` brokers, and one.
    pub(super) fn place(
        &self,
        first: usize,
        partitions: usize,
        replication_factor: usize,
        rng: &mut impl Rng,
    ) -> Vec<Vec<BrokerId>> {
        let n = self.slots.len();
        assert!(
            (1..=n).contains(&replication_factor),
            "{replication_factor} replicas on {n}"
        );
        let start = rng.random_range(0..n as u64) as usize;
        (first..first + partitions)
            .map(|partition| {
                let shift = if n > 1 { (partition / n) % (n - 1) } else { 0 };
                self.replicas((start + partition) % n, shift, replication_factor)
            })
            .collect()
    }

    fn replicas(&self, leader: usize, shift: usize, replication_factor: usize) -> Vec<BrokerId> {
        let n = self.slots.len();
        let mut chosen = vec![self.slots[leader].0];
        let mut racks = BTreeSet::from([self.slots[leader].1]);
        let followers = || (0..n - 1).map(|i| self.slots[(leader + 1 + (shift + i) % (n - 1)) % n]);
        while chosen.len() < replication_factor {
            let free = |slot: &Slot| !chosen.contains(&slot.0);
            let fresh_rack = |slot: &Slot| racks.len() == self.racks || !racks.contains(&slot.1);
            let next = followers().find(|slot| free(slot) && fresh_rack(slot));
            let Some((broker, rack)) = next.or_else(|| followers().find(free)) else {
                break;
            };
            chosen.push(broker);
            racks.insert(rack);
        }
        chosen
    }
}
