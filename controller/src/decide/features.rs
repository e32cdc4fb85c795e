//! Features: which levels this release runs, and which one the cluster has agreed on. A format or a
//! protocol that an older release could not read is used only once its level is finalised, so a
//! binary can be rolled back until then.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{CommandReply, FeatureUpdate, FeatureUpdateMode, UpdateFeaturesError};
use crate::decide::Decision;
use crate::image::MetadataImage;
use crate::record::{FeatureRange, MetadataRecord};

/// One feature of this release: name, levels it runs, level that a new cluster starts with (0:
/// none).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    pub bootstrap: i16,
}

/// Only what is complete is listed: a client switches on what it finds here. `metadata.version`
/// tells tools which Kafka this cluster speaks like; it is always finalised.
pub const FEATURES: &[Feature] = &[
    // Consumer groups (KIP-848).
    Feature {
        name: "group.version",
        min: 0,
        max: 1,
        bootstrap: 1,
    },
    Feature {
        name: "metadata.version",
        min: 7,
        max: 30,
        bootstrap: 30,
    },
];

/// What a broker of this release registers.
pub fn supported_features() -> Vec<FeatureRange> {
    FEATURES
        .iter()
        .map(|f| FeatureRange {
            name: Arc::from(f.name),
            min: f.min,
            max: f.max,
        })
        .collect()
}

/// The first records of a cluster.
pub fn bootstrap(cluster_id: &Arc<str>) -> Vec<MetadataRecord> {
    let mut records = vec![MetadataRecord::Cluster {
        cluster_id: cluster_id.clone(),
    }];
    let finalised = FEATURES.iter().filter(|feature| feature.bootstrap > 0);
    for (epoch, feature) in (0i64..).zip(finalised) {
        let name = Arc::from(feature.name);
        records.push(MetadataRecord::Feature {
            name,
            level: feature.bootstrap,
            epoch,
        });
    }
    records
}

/// All updates or none.
pub(super) fn update(
    image: &MetadataImage,
    updates: &[FeatureUpdate],
    validate_only: bool,
) -> Decision {
    let mut names = BTreeSet::new();
    let checked = updates.iter().try_for_each(|update| {
        if !names.insert(&update.name) {
            let name = update.name.clone();
            return Err(UpdateFeaturesError::DuplicateInRequest { name });
        }
        check(image, update)
    });
    let mut records = Vec::new();
    if checked.is_ok() && !validate_only {
        let changed = updates
            .iter()
            .filter(|u| u.level != image.features.level(&u.name));
        for (update, epoch) in changed.zip(image.features.epoch() + 1..) {
            let (name, level) = (update.name.clone(), update.level);
            records.push(MetadataRecord::Feature { name, level, epoch });
        }
    }
    Decision {
        records,
        reply: CommandReply::FeaturesUpdated(checked),
    }
}

fn check(image: &MetadataImage, update: &FeatureUpdate) -> Result<(), UpdateFeaturesError> {
    let (name, level) = (update.name.clone(), update.level);
    let Some(feature) = FEATURES
        .iter()
        .find(|feature| *feature.name == *update.name)
    else {
        return Err(UpdateFeaturesError::UnknownFeature { name });
    };
    // Level 0 means "not finalised", which a feature with a larger minimum must never be.
    if level < feature.min || level > feature.max {
        let (min, max) = (feature.min, feature.max);
        return Err(UpdateFeaturesError::UnsupportedLevel {
            name,
            level,
            min,
            max,
        });
    }
    let current = image.features.level(&update.name);
    match update.mode {
        FeatureUpdateMode::Upgrade if level < current => {
            return Err(UpdateFeaturesError::DowngradeNotAllowed { name, current });
        }
        FeatureUpdateMode::SafeDowngrade | FeatureUpdateMode::UnsafeDowngrade
            if level > current =>
        {
            let requested = level;
            return Err(UpdateFeaturesError::NotADowngrade {
                name,
                current,
                requested,
            });
        }
        _ => {}
    }
    for broker in image.brokers.iter() {
        let range = broker
            .features
            .iter()
            .find(|range| *range.name == *update.name);
        if level > 0 && !range.is_some_and(|r| (r.min..=r.max).contains(&level)) {
            let broker = broker.id;
            return Err(UpdateFeaturesError::UnsupportedByBroker {
                name,
                level,
                broker,
            });
        }
    }
    Ok(())
}
