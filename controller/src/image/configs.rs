//! Dynamic configuration of an image: what was set for topics, brokers and groups, as the texts it
//! was set to. Which keys exist and what a text means is the broker's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::{ConfigResource, MetadataRecord};

/// The keys set for one resource.
type ConfigMap = BTreeMap<Arc<str>, Arc<str>>;

/// A resource without a key is not listed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigsImage {
    by_resource: BTreeMap<ConfigResource, Arc<ConfigMap>>,
}

static NOTHING_SET: ConfigMap = BTreeMap::new();

impl ConfigsImage {
    /// What is set for the resource, in the order of the keys.
    pub fn of(&self, resource: &ConfigResource) -> &BTreeMap<Arc<str>, Arc<str>> {
        self.by_resource
            .get(resource)
            .map_or(&NOTHING_SET, |configs| configs)
    }

    /// The resources for which something is set.
    pub fn resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.by_resource.keys()
    }

    pub(super) fn set(
        &mut self,
        resource: &ConfigResource,
        name: &Arc<str>,
        value: Option<&Arc<str>>,
    ) {
        let Some(value) = value else {
            return self.unset(resource, name);
        };
        let configs = self.by_resource.entry(resource.clone()).or_default();
        Arc::make_mut(configs).insert(name.clone(), value.clone());
    }

    fn unset(&mut self, resource: &ConfigResource, name: &str) {
        let Some(configs) = self.by_resource.get_mut(resource) else {
            return;
        };
        Arc::make_mut(configs).remove(name);
        if configs.is_empty() {
            self.by_resource.remove(resource);
        }
    }

    pub(super) fn remove_topic(&mut self, name: &Arc<str>) {
        self.by_resource
            .remove(&ConfigResource::Topic(name.clone()));
    }

    pub(super) fn snapshot(&self, records: &mut Vec<MetadataRecord>) {
        for (resource, configs) in &self.by_resource {
            for (name, value) in &**configs {
                records.push(MetadataRecord::Config {
                    resource: resource.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                });
            }
        }
    }
}
