//! Control batches as far as a log must understand them: the markers that end transactions.
//! Other control records (leader changes, snapshots, voters) are skipped.

use ottla_protocol::batch::RecordBatchView;
use ottla_protocol::record::{RecordLimits, Records};

/// The one record of an end-transaction marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndTransaction {
    pub(crate) committed: bool,
    pub(crate) coordinator_epoch: i32,
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// A marker is a few dozen bytes; what claims to be more is not one.
pub(crate) const MARKER_BYTES_MAX: usize = 1 << 10;

/// `None` when the batch is not an end-transaction marker.
pub(crate) fn end_transaction(view: RecordBatchView<'_>) -> Option<EndTransaction> {
    if !view.is_control() || view.size_bytes() > MARKER_BYTES_MAX {
        return None;
    }
    let limits = RecordLimits {
        plain_bytes: MARKER_BYTES_MAX as u64,
        ratio: 1,
    };
    let mut records = Records::open(view, limits).ok()?;
    let record = records.next_ref()?.ok()?;
    // Version, then type.
    let kind = record.key()?.get(2..4)?;
    let committed = match i16::from_be_bytes([kind[0], kind[1]]) {
        ABORT => false,
        COMMIT => true,
        _ => return None,
    };
    // Version, then the coordinator's epoch.
    let epoch = record.value()?.get(2..6)?;
    let coordinator_epoch = i32::from_be_bytes([epoch[0], epoch[1], epoch[2], epoch[3]]);
    Some(EndTransaction {
        committed,
        coordinator_epoch,
    })
}
