//! Keeps an image of each coordinator's partition: the last value of every key, and the offset up
//! to which the log is in it.
//!
//! Nobody hands records over. A turn only says that something changed; a while later the image
//! reads what is committed from the log and writes it, a megabyte at a time, each in one atomic
//! write with its offset. So images are in order and never ahead of what is committed, many turns
//! share a write, a value that is overwritten soon is never written, nothing queues up in memory,
//! and a store that is slow or broken costs a longer tail at the next start and no commit anything.
//!
//! An image is a projection and is trusted only if it fits its log ([`stamp`]); otherwise it is
//! dropped and made again. A damaged store is removed with all images in it. Lock order: this
//! file's lock is held across reads of the log and writes to the store, and no shard is locked
//! inside it; requests never take it.
//!
//! Deliberately absent: threads and the choice of the store. A broker without a home for images
//! (one that keeps nothing on disk) has none.

mod stamp;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::types::Offset;
use ottla_storage::image::{Change, Image, ImageError, ImageHome, ImageStore};
use ottla_storage::log::ReadError;
use parking_lot::Mutex;

use super::replay::{ReplayError, next_records};
use crate::partition::{Marks, Partition, PartitionError};
use stamp::Stamp;

/// How long changes gather before they are written.
const APPLY_EVERY: Duration = Duration::from_secs(1);
/// How long a store that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// In front of every record's key, which keeps them apart from the stamp.
const RECORD: u8 = 1;

/// The images of this broker's coordinators.
pub(super) struct Images {
    home: Option<Arc<dyn ImageHome>>,
    inner: Mutex<Inner>,
    /// Something was written to a log since the images were last brought up to date.
    changed: AtomicBool,
    on_change: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Up to where each image is, for whoever wants to know without waiting for the store.
    applied: Mutex<BTreeMap<i32, Offset>>,
    failures: AtomicU64,
}

#[derive(Default)]
struct Inner {
    store: Option<Arc<dyn ImageStore>>,
    held: BTreeMap<i32, Held>,
    due: Option<Instant>,
    retry_at: Option<Instant>,
}

struct Held {
    partition: Arc<Partition>,
    image: Box<dyn Image>,
}

/// What kept an image from being brought up to date.
enum Trouble {
    Store(ImageError),
    Log(ReplayError),
    /// What it has not seen yet is no longer in the log.
    LeftBehind,
}

impl From<ImageError> for Trouble {
    fn from(error: ImageError) -> Trouble {
        Trouble::Store(error)
    }
}

impl From<ReplayError> for Trouble {
    fn from(error: ReplayError) -> Trouble {
        match error {
            ReplayError::Partition(PartitionError::Read(ReadError::OffsetOutOfRange {
                ..
            })) => Trouble::LeftBehind,
            error => Trouble::Log(error),
        }
    }
}

impl Images {
    pub(super) fn new(home: Option<Arc<dyn ImageHome>>) -> Images {
        Images {
            home,
            inner: Mutex::default(),
            changed: AtomicBool::new(false),
            on_change: OnceLock::new(),
            applied: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// `wake` is called when there is something to do after there was nothing.
    pub(super) fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_change.set(Box::new(wake));
    }

    /// A log has grown; costs a load when that is known.
    pub(super) fn changed(&self) {
        if self.home.is_none() || self.changed.load(Ordering::Acquire) {
            return;
        }
        if !self.changed.swap(true, Ordering::AcqRel)
            && let Some(wake) = self.on_change.get()
        {
            wake();
        }
    }

    /// Visits the keys and values of a partition's image and returns up to where the log is in it;
    /// `None` when there is none that can be used, whatever was visited.
    pub(super) fn read(
        &self,
        partition: &Arc<Partition>,
        (now, now_ms): (Instant, i64),
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Option<Offset> {
        let home = self.home.as_deref()?;
        let marks = partition.marks().ok()?;
        if marks.log_start_offset == marks.log_end_offset {
            return None;
        }
        let mut inner = self.inner.lock();
        match inner.read(home, partition, now_ms, visit) {
            Ok(applied_to) => applied_to,
            Err(error) => {
                self.failed(&mut inner, error, now);
                None
            }
        }
    }

    /// Brings the images of these partitions up to date when it is time to; returns when it wants
    /// to be called again, if nothing changes before. Blocks as long as the store does.
    pub(super) fn run(
        &self,
        partitions: &[Arc<Partition>],
        (now, now_ms): (Instant, i64),
    ) -> Option<Instant> {
        if !self.changed.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.inner.lock();
        let gathered = *inner.due.get_or_insert(now + APPLY_EVERY);
        let due = inner.retry_at.map_or(gathered, |retry| retry.max(gathered));
        if now < due {
            return Some(due);
        }
        (inner.due, inner.retry_at) = (None, None);
        self.changed.store(false, Ordering::Release);
        if self.catch_up(&mut inner, partitions, (now, now_ms)) {
            return None;
        }
        self.changed.store(true, Ordering::Release);
        inner.due = Some(now + APPLY_EVERY);
        inner.retry_at.max(inner.due)
    }

    /// The end of a broker that stops in order: everything that is committed gets into the images,
    /// and the store is closed.
    pub(super) fn finish(&self, partitions: &[Arc<Partition>], (now, now_ms): (Instant, i64)) {
        let mut inner = self.inner.lock();
        if self.changed.swap(false, Ordering::AcqRel) {
            self.catch_up(&mut inner, partitions, (now, now_ms));
        }
        if let Some(store) = &inner.store
            && let Err(error) = store.sync()
        {
            self.failed(&mut inner, error, now);
        }
        inner.close();
    }

    /// True when everything that was written to the logs is in their images.
    fn catch_up(
        &self,
        inner: &mut Inner,
        partitions: &[Arc<Partition>],
        (now, now_ms): (Instant, i64),
    ) -> bool {
        let Some(home) = self.home.as_deref() else {
            return true;
        };
        let mut done = true;
        if let Err(error) = self.drop_others(inner, partitions) {
            self.failed(inner, error, now);
            return false;
        }
        for partition in partitions {
            match self.apply(inner, home, partition, now_ms) {
                Ok(all) => done &= all,
                Err(Trouble::Store(error)) => {
                    self.failed(inner, error, now);
                    return false;
                }
                Err(Trouble::Log(error)) => {
                    tracing::debug!(?partition, %error, "an image waits for its log");
                }
                Err(Trouble::LeftBehind) => {
                    done = false;
                    if let Err(error) = inner.forget(partition) {
                        self.failed(inner, error, now);
                        return false;
                    }
                }
            }
        }
        done
    }

    /// Applies what of a partition is committed; true when that is all of it.
    fn apply(
        &self,
        inner: &mut Inner,
        home: &dyn ImageHome,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) -> Result<bool, Trouble> {
        let marks = partition.marks().map_err(ReplayError::from)?;
        if marks.log_end_offset == marks.log_start_offset {
            return Ok(true);
        }
        let held = inner.hold(home, partition, now_ms)?;
        loop {
            let marks = partition.marks().map_err(ReplayError::from)?;
            let more = held.apply_next(&marks, now_ms)?;
            if let Some(applied_to) = held.image.applied_to() {
                self.applied.lock().insert(partition.index, applied_to);
            }
            if !more {
                return Ok(marks.high_watermark == marks.log_end_offset);
            }
        }
    }

    /// Images of partitions that are gone, or were replaced, go too.
    fn drop_others(
        &self,
        inner: &mut Inner,
        partitions: &[Arc<Partition>],
    ) -> Result<(), ImageError> {
        let is_current = |held: &Held| partitions.iter().any(|p| Arc::ptr_eq(p, &held.partition));
        let others: Vec<_> = inner
            .held
            .values()
            .filter(|held| !is_current(held))
            .collect();
        let others: Vec<_> = others.iter().map(|h| Arc::clone(&h.partition)).collect();
        for partition in others {
            self.applied.lock().remove(&partition.index);
            inner.forget(&partition)?;
        }
        Ok(())
    }

    /// The store is given up; a damaged one is removed, so that the next one is empty.
    fn failed(&self, inner: &mut Inner, error: ImageError, now: Instant) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        inner.close();
        inner.retry_at = Some(now + RETRY_AFTER);
        if !matches!(error, ImageError::Damaged(_)) {
            tracing::warn!(%error, "images of groups fall behind: starting will take longer");
            return;
        }
        tracing::warn!(%error, "images of groups are made again from their logs");
        match self.home.as_deref().map(ImageHome::destroy) {
            Some(Err(error)) => tracing::warn!(%error, "the damaged store cannot be removed"),
            _ => inner.retry_at = None,
        }
    }

    /// Committed records that are not in their images.
    pub(super) fn lag_records(&self, partitions: &[Arc<Partition>]) -> u64 {
        if self.home.is_none() {
            return 0;
        }
        let applied = self.applied.lock().clone();
        let marks = partitions
            .iter()
            .filter_map(|p| Some((p.index, p.marks().ok()?)));
        let lag = marks.map(|(index, marks)| {
            let from = applied
                .get(&index)
                .copied()
                .unwrap_or(marks.log_start_offset);
            u64::try_from(marks.high_watermark - from).unwrap_or(0)
        });
        lag.sum()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn close(&mut self) {
        self.held.clear();
        self.store = None;
    }

    fn store(&mut self, home: &dyn ImageHome) -> Result<Arc<dyn ImageStore>, ImageError> {
        if let Some(store) = &self.store {
            return Ok(Arc::clone(store));
        }
        let (store, damage) = home.open_or_replace()?;
        if let Some(error) = damage {
            tracing::warn!(%error, "images of groups are made again from their logs");
        }
        self.store = Some(Arc::clone(&store));
        Ok(store)
    }

    fn read(
        &mut self,
        home: &dyn ImageHome,
        partition: &Arc<Partition>,
        now_ms: i64,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Option<Offset>, ImageError> {
        let image = &self.hold(home, partition, now_ms)?.image;
        let Some(applied_to) = image.applied_to() else {
            return Ok(None);
        };
        image.scan(&[RECORD], &mut |key, value| {
            visit(key.get(1..).unwrap_or_default(), value);
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(Some(applied_to))
    }

    /// The partition's image, opened and found to fit its log, or a new one.
    fn hold(
        &mut self,
        home: &dyn ImageHome,
        partition: &Arc<Partition>,
        now_ms: i64,
    ) -> Result<&mut Held, ImageError> {
        let index = partition.index;
        let known = self.held.get(&index);
        if !known.is_some_and(|held| Arc::ptr_eq(&held.partition, partition)) {
            self.held.remove(&index);
            let image = open(&*self.store(home)?, partition, now_ms)?;
            let partition = Arc::clone(partition);
            self.held.insert(index, Held { partition, image });
        }
        let held = self.held.get_mut(&index);
        Ok(held.expect("it was found or inserted"))
    }

    fn forget(&mut self, partition: &Partition) -> Result<(), ImageError> {
        self.held.remove(&partition.index);
        match &self.store {
            Some(store) => store.remove(&name(partition)),
            None => Ok(()),
        }
    }
}

impl Held {
    /// Applies a piece of what is committed; false when there was nothing.
    fn apply_next(&mut self, marks: &Marks, now_ms: i64) -> Result<bool, Trouble> {
        let from = self.image.applied_to().unwrap_or(marks.log_start_offset);
        if from >= marks.high_watermark {
            return Ok(false);
        }
        let mut values: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        let next = next_records(&self.partition, from, &mut |key, value| {
            let value = value.map(Bytes::copy_from_slice);
            match values.get_mut(key) {
                Some(known) => *known = value,
                None => drop(values.insert(Bytes::copy_from_slice(key), value)),
            }
        })?;
        if next <= from {
            return Ok(false);
        }
        let stamp = Stamp::of(&self.partition, next, now_ms).map_err(ReplayError::from)?;
        let mut changes = Vec::with_capacity(values.len() + 1);
        changes.push(stamp.change());
        changes.extend(values.into_iter().map(|(key, value)| {
            let key = [&[RECORD], &key[..]].concat().into();
            Change { key, value }
        }));
        self.image.write(&changes, next)?;
        Ok(true)
    }
}

/// An image that fits the partition's log; an empty one if what is there does not.
fn open(
    store: &dyn ImageStore,
    partition: &Partition,
    now_ms: i64,
) -> Result<Box<dyn Image>, ImageError> {
    let name = name(partition);
    let image = store.image(&name)?;
    let Some(why) = stamp::distrust(&*image, partition, now_ms)? else {
        return Ok(image);
    };
    tracing::warn!(image = name, %why, "an image of groups is made again from its log");
    drop(image);
    store.remove(&name)?;
    store.image(&name)
}

fn name(partition: &Partition) -> String {
    format!("{}-{}", partition.topic, partition.index)
}

#[cfg(test)]
mod tests;
