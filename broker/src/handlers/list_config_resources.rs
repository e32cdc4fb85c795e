//! ListConfigResources: what can have a configuration. Version 0 knew client metrics only, which
//! this broker does not collect.

use ottla_controller::MetadataImage;
use ottla_controller::record::ConfigResource as OurResource;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::list_config_resources_response::ConfigResource;
use ottla_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::broker::Configs;
use crate::context::RequestContext;
use crate::handlers::resource::ResourceType;
use crate::handlers::wire::text;
use crate::reply::Reply;

/// From here the client says which types; none means all.
const TYPES_FROM: i16 = 1;

const ALL: &[ResourceType] = &[
    ResourceType::Topic,
    ResourceType::Broker,
    ResourceType::BrokerLogger,
    ResourceType::ClientMetrics,
    ResourceType::Group,
];

pub fn handle(
    configs: Configs<'_>,
    ctx: &RequestContext<'_>,
    request: ListConfigResourcesRequest,
) -> Reply<ListConfigResourcesResponse> {
    let asked: Option<Vec<ResourceType>> = match request.resource_types.as_slice() {
        _ if ctx.version < TYPES_FROM => Some(vec![ResourceType::ClientMetrics]),
        [] => Some(ALL.to_vec()),
        types => types.iter().copied().map(ResourceType::from_wire).collect(),
    };
    let response = ListConfigResourcesResponse::default();
    let Some(asked) = asked else {
        return Reply::Now(response.with_error_code(ErrorCode::UNSUPPORTED_VERSION.0));
    };
    let image = configs.metadata.image();
    let listed = ALL.iter().filter(|kind| asked.contains(kind));
    Reply::Now(
        response.with_config_resources(listed.flat_map(|kind| list(&image, *kind)).collect()),
    )
}

fn list(image: &MetadataImage, kind: ResourceType) -> Vec<ConfigResource> {
    let resource = |name: &dyn std::fmt::Display| {
        ConfigResource::default()
            .with_resource_name(text(name))
            .with_resource_type(kind.to_wire())
    };
    match kind {
        ResourceType::Topic => image
            .topics
            .iter()
            .map(|topic| resource(&topic.name))
            .collect(),
        ResourceType::Broker | ResourceType::BrokerLogger => image
            .brokers
            .iter()
            .map(|broker| resource(&broker.id.0))
            .collect(),
        ResourceType::ClientMetrics => Vec::new(),
        ResourceType::Group => {
            let groups = image
                .configs
                .resources()
                .filter_map(|configured| match configured {
                    OurResource::Group(name) => Some(resource(name)),
                    OurResource::Topic(_) | OurResource::Broker(_) | OurResource::BrokerDefault => {
                        None
                    }
                });
            groups.collect()
        }
    }
}

#[cfg(test)]
mod tests;
