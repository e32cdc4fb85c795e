//! What opening a log found out, for the operator and for tests.

use ottla_protocol::types::Offset;

use super::error::Fault;

/// The account of one [`super::Log::open`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Offsets below were trusted; equal to the log end after a clean shutdown.
    pub trusted_to: Offset,
    pub log_end_offset: Offset,
    /// Batches and bytes whose CRC was computed.
    pub checked_batches: u64,
    pub checked_bytes: u64,
    /// Bytes cut off at the end of the log, and segments dropped behind.
    pub truncated_bytes: u64,
    pub dropped_segments: u32,
    /// What was not as it should be, in the order of offsets.
    pub damage: Vec<Damage>,
    /// The directory said that more was durable than there is.
    pub lost_below_recovery_point: Option<Offset>,
    /// Producer snapshots that could not be used.
    pub discarded_snapshots: u32,
    /// The leader-epoch history was missing or damaged and came from the batches.
    pub epochs_rebuilt: bool,
}

impl RecoveryReport {
    /// True when batches were found that a torn tail alone does not explain.
    pub fn is_corrupt(&self) -> bool {
        let corrupt = |damage: &Damage| damage.kind != DamageKind::TornTail;
        self.lost_below_recovery_point.is_some() || self.damage.iter().any(corrupt)
    }
}

/// One damaged place in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Relative to the log directory.
    pub path: String,
    pub position: u64,
    pub fault: Fault,
    pub kind: DamageKind,
}

/// What the damage means for what comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Nothing valid follows: what an interrupted write leaves. Cut off.
    TornTail,
    /// Valid batches follow, above what was known to be durable. The log ends before the damage
    /// now; the bytes behind it are kept in `salvaged` files beside the segment.
    CutOff {
        valid_batches_after: u64,
        salvaged: Vec<String>,
    },
    /// Below what was known to be durable. Kept as it is: reads of this range fail, the rest is
    /// served.
    Kept { until_position: u64 },
}
