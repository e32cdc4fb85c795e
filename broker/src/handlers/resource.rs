//! What a configuration belongs to, as requests name it: a type and a text.

use ottla_controller::record::ConfigResource;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::topic_name;
use ottla_protocol::types::BrokerId;

use crate::errors::Failure;
use crate::handlers::wire::owned;

/// Kafka's numbers for the types.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum ResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ResourceType {
    pub(super) fn from_wire(number: i8) -> Option<ResourceType> {
        match number {
            2 => Some(ResourceType::Topic),
            4 => Some(ResourceType::Broker),
            8 => Some(ResourceType::BrokerLogger),
            16 => Some(ResourceType::ClientMetrics),
            32 => Some(ResourceType::Group),
            _ => None,
        }
    }

    pub(super) fn to_wire(self) -> i8 {
        match self {
            ResourceType::Topic => 2,
            ResourceType::Broker => 4,
            ResourceType::BrokerLogger => 8,
            ResourceType::ClientMetrics => 16,
            ResourceType::Group => 32,
        }
    }
}

/// A resource that a request may read or change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Resource {
    /// Kept in the metadata.
    Replicated(ConfigResource),
    /// The log levels of this very process.
    Loggers,
    /// Subscriptions to the metrics of clients; never stored here.
    ClientMetrics,
}

impl Resource {
    pub(super) fn parse(number: i8, name: &str, node_id: BrokerId) -> Result<Resource, Failure> {
        let invalid = |message: String| Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
        let Some(kind) = ResourceType::from_wire(number) else {
            return invalid(format!("configs have no resource type {number}"));
        };
        match kind {
            ResourceType::Topic => {
                topic_name::validate(name)?;
                Ok(Resource::Replicated(ConfigResource::Topic(owned(name))))
            }
            ResourceType::Broker if name.is_empty() => {
                Ok(Resource::Replicated(ConfigResource::BrokerDefault))
            }
            ResourceType::Broker => {
                let id = broker_id(name)?;
                Ok(Resource::Replicated(ConfigResource::Broker(id)))
            }
            ResourceType::BrokerLogger => match broker_id(name)? {
                id if id == node_id => Ok(Resource::Loggers),
                other => invalid(format!("this is broker {node_id}, not {other}")),
            },
            ResourceType::ClientMetrics if name.is_empty() => {
                invalid("the name of a client metrics subscription is not empty".to_owned())
            }
            ResourceType::ClientMetrics => Ok(Resource::ClientMetrics),
            ResourceType::Group if name.is_empty() => {
                invalid("the name of a group is not empty".to_owned())
            }
            ResourceType::Group => Ok(Resource::Replicated(ConfigResource::Group(owned(name)))),
        }
    }
}

fn broker_id(name: &str) -> Result<BrokerId, Failure> {
    name.parse().map(BrokerId).map_err(|_| {
        let message = format!("the id of a broker is a number, not '{name}'");
        Failure::new(ErrorCode::INVALID_REQUEST, message)
    })
}
