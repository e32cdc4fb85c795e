//! A bound on the memory of requests that are still arriving, over all connections
//! (`queued.max.request.bytes`). A connection has a few KiB for nothing and claims what it needs
//! beyond: for a larger request before it receives it, and for a larger buffer to read into. While
//! there is no room for a request it does not read, so its client waits and nobody else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kafka's default is no bound at all. This one only makes clients wait, and is never reached by
/// requests of usual sizes.
const DEFAULT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

#[derive(Debug)]
pub struct RequestMemory {
    bytes_max: u64,
    claimed_bytes: AtomicU64,
}

/// The right to hold so many bytes; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    memory: Arc<RequestMemory>,
    bytes: u64,
}

impl RequestMemory {
    pub fn new(bytes_max: Option<u64>) -> Arc<RequestMemory> {
        let bytes_max = bytes_max.unwrap_or(DEFAULT_BYTES_MAX);
        Arc::new(RequestMemory {
            bytes_max,
            claimed_bytes: AtomicU64::new(0),
        })
    }

    /// `None` while others hold too much. A request larger than the whole bound gets through alone.
    pub fn claim(self: &Arc<Self>, bytes: usize) -> Option<Claim> {
        let bytes = bytes as u64;
        self.claim_if(bytes, |claimed| {
            claimed == 0 || claimed + bytes <= self.bytes_max
        })
    }

    /// For what is only faster: leaves half of the memory to those who cannot do without.
    pub fn claim_spare(self: &Arc<Self>, bytes: usize) -> Option<Claim> {
        let bytes = bytes as u64;
        self.claim_if(bytes, |claimed| claimed + bytes <= self.bytes_max / 2)
    }

    fn claim_if(self: &Arc<Self>, bytes: u64, fits: impl Fn(u64) -> bool) -> Option<Claim> {
        let fits = |claimed: u64| fits(claimed).then_some(claimed + bytes);
        self.claimed_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .ok()?;
        Some(Claim {
            memory: Arc::clone(self),
            bytes,
        })
    }

    pub fn claimed_bytes(&self) -> u64 {
        self.claimed_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.memory
            .claimed_bytes
            .fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_granted_up_to_the_bound_and_given_back() {
        let memory = RequestMemory::new(Some(100));
        let first = memory.claim(60).expect("there is room");
        let second = memory.claim(40).expect("exactly full");
        assert!(memory.claim(1).is_none());
        drop(first);
        assert!(memory.claim(61).is_none());
        assert!(memory.claim(60).is_some());
        drop(second);
        assert_eq!(memory.claimed_bytes(), 0);
    }

    #[test]
    fn what_is_only_faster_takes_no_more_than_half() {
        let memory = RequestMemory::new(Some(100));
        assert!(memory.claim_spare(51).is_none());
        let spare = memory.claim_spare(50).expect("half");
        assert!(memory.claim_spare(1).is_none());
        assert!(memory.claim(50).is_some());
        drop(spare);
        assert_eq!(memory.claimed_bytes(), 0);
    }

    #[test]
    fn a_request_larger_than_the_bound_gets_through_when_it_is_alone() {
        let memory = RequestMemory::new(Some(100));
        let small = memory.claim(1).expect("there is room");
        assert!(memory.claim(500).is_none());
        drop(small);
        assert!(memory.claim(500).is_some());
    }
}
