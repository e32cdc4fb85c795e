//! Load generators and the benchmarks made of them.
//!
//! Everything here speaks TCP and reads `/proc`, and does not know whom it measures, so each figure
//! can be taken from another broker with the same program. The generators are as cheap as they can
//! be: [`replay`] sends one batch that was encoded once, again and again, and [`drain`] lets the
//! kernel throw away what it fetches; two cores are enough to load a broker to its limit.
//! [`commits`] and [`groups`] are the load of consumer groups, [`spread`] and [`watcher`] that of
//! many partitions, [`paced`] that of a producer with a schedule. The others are rows of the
//! comparison with Apache Kafka: they start brokers from nothing and end those that they started.

pub mod cold;
pub mod commits;
pub mod compaction;
pub mod density;
pub mod drain;
pub mod fsync;
pub mod groups;
pub mod member;
pub mod paced;
pub mod peer;
pub mod process;
#[cfg(feature = "librdkafka")]
pub mod real_client;
pub mod recovery;
pub mod replay;
pub mod report;
pub mod side_by_side;
pub mod spread;
pub mod sync;
pub mod watcher;
pub mod wire;
