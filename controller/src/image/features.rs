//! Finalised features of an image. `epoch` grows with every finalisation, which is what clients
//! compare; a feature at level 0 is not listed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::MetadataRecord;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeaturesImage {
    levels: BTreeMap<Arc<str>, i16>,
    epoch: i64,
}

impl Default for FeaturesImage {
    fn default() -> Self {
        FeaturesImage {
            levels: BTreeMap::new(),
            epoch: -1,
        }
    }
}

impl FeaturesImage {
    /// The finalised level, 0 when there is none.
    pub fn level(&self, name: &str) -> i16 {
        self.levels.get(name).copied().unwrap_or(0)
    }

    /// Finalised features in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i16)> {
        self.levels.iter().map(|(name, level)| (name, *level))
    }

    /// -1 while nothing was ever finalised.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(super) fn finalize(&mut self, name: &Arc<str>, level: i16, epoch: i64) {
        if level == 0 {
            self.levels.remove(name);
        } else {
            self.levels.insert(name.clone(), level);
        }
        self.epoch = self.epoch.max(epoch);
    }

    /// The epoch survives in the records of the levels; `metadata.version` is never taken back, so
    /// there is one.
    pub(super) fn snapshot(&self, records: &mut Vec<MetadataRecord>) {
        for (name, level) in &self.levels {
            let (name, level, epoch) = (name.clone(), *level, self.epoch);
            records.push(MetadataRecord::Feature { name, level, epoch });
        }
    }
}
