//! Registered brokers of an image.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::types::BrokerId;
use uuid::Uuid;

use crate::record::{
    BrokerEndpoint, BrokerEpoch, BrokerRegistrationRecord, FeatureRange, MetadataRecord,
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerImage {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    pub incarnation_id: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub features: Vec<FeatureRange>,
    pub rack: Option<Arc<str>>,
    pub log_dirs: Vec<Uuid>,
    pub fenced: bool,
}

impl BrokerImage {
    /// Where this broker is reached through the listener of that name.
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| &*endpoint.listener == listener)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BrokersImage {
    by_id: BTreeMap<BrokerId, Arc<BrokerImage>>,
}

impl BrokersImage {
    pub fn get(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.by_id.get(&id)
    }

    /// All registered brokers in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.by_id.values()
    }

    /// Brokers that may lead, in the order of their ids.
    pub fn alive(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.by_id.values().filter(|broker| !broker.fenced)
    }

    pub fn is_alive(&self, id: BrokerId) -> bool {
        self.by_id.get(&id).is_some_and(|broker| !broker.fenced)
    }

    pub(super) fn register(&mut self, r: &BrokerRegistrationRecord) {
        let broker = BrokerImage {
            id: r.broker_id,
            epoch: r.broker_epoch,
            incarnation_id: r.incarnation_id,
            endpoints: r.endpoints.clone(),
            features: r.features.clone(),
            rack: r.rack.clone(),
            log_dirs: r.log_dirs.clone(),
            fenced: r.fenced,
        };
        self.by_id.insert(r.broker_id, Arc::new(broker));
    }

    pub(super) fn unregister(&mut self, id: BrokerId) {
        self.by_id.remove(&id);
    }

    pub(super) fn snapshot(&self, records: &mut Vec<MetadataRecord>) {
        for broker in self.by_id.values() {
            records.push(MetadataRecord::BrokerRegistration(
                BrokerRegistrationRecord {
                    broker_id: broker.id,
                    broker_epoch: broker.epoch,
                    incarnation_id: broker.incarnation_id,
                    endpoints: broker.endpoints.clone(),
                    features: broker.features.clone(),
                    rack: broker.rack.clone(),
                    log_dirs: broker.log_dirs.clone(),
                    fenced: broker.fenced,
                },
            ));
        }
    }
}
