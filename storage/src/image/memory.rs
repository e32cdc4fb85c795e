//! Images in memory: for the simulator, for tests, and for a broker that is told to keep nothing.
//!
//! Clones share the images, as a reopened store finds what the last one left. A crash goes back to
//! the last sync; damage is injected by losing everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::types::Offset;
use parking_lot::Mutex;

use super::{Change, Image, ImageError, ImageHome, ImageStore, Visit, assert_forward, assert_name};

/// A store in memory. Clones share the content.
#[derive(Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    visible: BTreeMap<String, Content>,
    synced: BTreeMap<String, Content>,
    held: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Content {
    applied: Option<Offset>,
    values: BTreeMap<Bytes, Bytes>,
}

struct MemoryImage {
    name: String,
    state: Arc<Mutex<State>>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// The power fails: everything is as the last sync left it. Handles of before must be gone.
    pub fn crash(&self) {
        let state = &mut *self.state.lock();
        assert!(
            state.held.is_empty(),
            "the process that holds an image dies first"
        );
        state.visible = state.synced.clone();
    }

    /// Somebody deleted the directory.
    pub fn lose_everything(&self) {
        let state = &mut *self.state.lock();
        assert!(
            state.held.is_empty(),
            "the process that holds an image dies first"
        );
        *state = State::default();
    }
}

impl ImageHome for MemoryStore {
    fn open(&self) -> Result<Arc<dyn ImageStore>, ImageError> {
        Ok(Arc::new(self.clone()))
    }

    fn destroy(&self) -> Result<(), ImageError> {
        self.lose_everything();
        Ok(())
    }
}

impl ImageStore for MemoryStore {
    fn image(&self, name: &str) -> Result<Box<dyn Image>, ImageError> {
        assert_name(name);
        let fresh = self.state.lock().held.insert(name.to_owned());
        assert!(fresh, "the image {name} has a holder already");
        Ok(Box::new(MemoryImage {
            name: name.to_owned(),
            state: Arc::clone(&self.state),
        }))
    }

    fn remove(&self, name: &str) -> Result<(), ImageError> {
        let state = &mut *self.state.lock();
        assert!(!state.held.contains(name), "the image {name} has a holder");
        state.visible.remove(name);
        Ok(())
    }

    fn sync(&self) -> Result<(), ImageError> {
        let state = &mut *self.state.lock();
        state.synced = state.visible.clone();
        Ok(())
    }
}

impl Drop for MemoryImage {
    fn drop(&mut self) {
        self.state.lock().held.remove(&self.name);
    }
}

impl Image for MemoryImage {
    fn applied_to(&self) -> Option<Offset> {
        self.state
            .lock()
            .visible
            .get(&self.name)
            .and_then(|content| content.applied)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ImageError> {
        let state = self.state.lock();
        Ok(state
            .visible
            .get(&self.name)
            .and_then(|content| content.values.get(key))
            .cloned())
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), ImageError> {
        let state = self.state.lock();
        let Some(content) = state.visible.get(&self.name) else {
            return Ok(());
        };
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (key, value) in content.values.range::<[u8], _>(from) {
            if !key.starts_with(prefix) || visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change], applied_to: Offset) -> Result<(), ImageError> {
        let state = &mut *self.state.lock();
        let content = state.visible.entry(self.name.clone()).or_default();
        assert_forward(content.applied, applied_to);
        for Change { key, value } in changes {
            match value {
                Some(value) => content.values.insert(key.clone(), value.clone()),
                None => content.values.remove(key),
            };
        }
        content.applied = Some(applied_to);
        Ok(())
    }
}
