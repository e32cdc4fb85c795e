//! The seam of materialised images: keys and values that a coordinator derived from its partition
//! of an internal topic, together with the offset up to which they are applied.
//!
//! One store holds many images, one per partition. Two implementations share one conformance
//! suite: [`MemoryStore`], and RocksDB behind the feature `rocksdb`.
//!
//! What the seam promises:
//! - A write is atomic: its changes and its `applied_to` are both there or neither.
//! - After a crash an image is as it was after one of its writes: the last one if only the process
//!   died, none older than the last `sync` if the power failed.
//! - An image is a projection of a log and may be lost. [`ImageError::Damaged`] is answered by
//!   removing the store, opening a new one, and replaying the log from its start.
//!
//! Deliberately absent: transactions over several images, reads of older states, and any durable
//! fact: nothing may be acknowledged because it is in an image.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::types::Offset;

pub mod memory;
#[cfg(feature = "rocksdb")]
pub mod rocks;

#[cfg(test)]
mod tests;

pub use memory::MemoryStore;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksHome, RocksStore};

/// What went wrong, by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Remove the store and rebuild it.
    #[error("the image is damaged: {0}")]
    Damaged(#[source] Source),
    /// Another process, or another store of this one, has it open.
    #[error("the image is in use: {0}")]
    InUse(#[source] Source),
    #[error("the disk of the image is full: {0}")]
    Full(#[source] Source),
    /// The image must be opened again; what was written last is there or not.
    #[error("the image failed: {0}")]
    Failed(#[source] Source),
}

pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// One key's new value; `None` removes it. Keys and values may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Change {
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
        Change {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    pub fn remove(key: impl Into<Bytes>) -> Change {
        Change {
            key: key.into(),
            value: None,
        }
    }
}

/// Whether a scan goes on: `ControlFlow::Continue(())` or `ControlFlow::Break(())`.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Where the images of one broker are kept: opened when they are first needed, so that a broker
/// without groups pays nothing for them.
pub trait ImageHome: Send + Sync {
    /// Opens the store, or makes an empty one. There is at most one open store per home.
    fn open(&self) -> Result<Arc<dyn ImageStore>, ImageError>;
    /// Removes what is there, damaged or not. The store must not be open.
    fn destroy(&self) -> Result<(), ImageError>;

    /// Opens the store, or an empty one in place of a damaged one; why, if so.
    fn open_or_replace(&self) -> Result<(Arc<dyn ImageStore>, Option<ImageError>), ImageError> {
        match self.open() {
            Ok(store) => Ok((store, None)),
            Err(damage @ ImageError::Damaged(_)) => {
                self.destroy()?;
                Ok((self.open()?, Some(damage)))
            }
            Err(error) => Err(error),
        }
    }
}

/// The images of one broker.
pub trait ImageStore: Send + Sync {
    /// The image of that name (at most 255 bytes), empty if it is new. An image has one holder:
    /// panics while another handle to the same name lives.
    fn image(&self, name: &str) -> Result<Box<dyn Image>, ImageError>;
    /// Forgets the image of that name; panics while a handle to it lives.
    fn remove(&self, name: &str) -> Result<(), ImageError>;
    /// Makes everything written so far survive a power cut.
    fn sync(&self) -> Result<(), ImageError>;
}

/// One partition's image.
pub trait Image: Send {
    /// The records before this offset are applied; `None`: nothing was ever written.
    fn applied_to(&self) -> Option<Offset>;
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ImageError>;
    /// Visits the keys that start with `prefix`, in the order of their bytes.
    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), ImageError>;
    /// Applies all changes in order, and `applied_to`, atomically. `applied_to` never decreases:
    /// panics if it does.
    fn write(&mut self, changes: &[Change], applied_to: Offset) -> Result<(), ImageError>;
}

fn assert_name(name: &str) {
    let len = name.len();
    assert!(
        (1..=255).contains(&len),
        "the name of an image has 1 to 255 bytes, not {len}"
    );
}

fn assert_forward(applied: Option<Offset>, applied_to: Offset) {
    assert!(
        applied.is_none_or(|applied| applied <= applied_to),
        "an image cannot go back from {applied:?} to {applied_to:?}"
    );
}
