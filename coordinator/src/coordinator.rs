//! [`GroupCoordinator`]: the groups and offsets of one partition of `__consumer_offsets`.

/// See the crate's documentation.
#[derive(Debug, Default)]
pub struct GroupCoordinator {}
