//! DescribeClientQuotas and AlterClientQuotas: no client has a quota, and none can be given one.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use ottla_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, StrBytes,
};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::handlers::wire::text;
use crate::reply::Reply;

const ENTITY_TYPES: &[&str] = &["user", "client-id", "ip"];

pub fn describe(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: DescribeClientQuotasRequest,
) -> Reply<DescribeClientQuotasResponse> {
    let response = DescribeClientQuotasResponse::default();
    let mut types = request
        .components
        .iter()
        .map(|component| &*component.entity_type);
    Reply::Now(match types.find(|name| !ENTITY_TYPES.contains(name)) {
        Some(unknown) => response
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
            .with_error_message(Some(text(format!(
                "quotas have no entity type '{unknown}'"
            ))))
            .with_entries(None),
        None => response
            .with_error_message(None)
            .with_entries(Some(Vec::new())),
    })
}

pub fn alter(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: AlterClientQuotasRequest,
) -> Reply<AlterClientQuotasResponse> {
    let entries = request.entries.into_iter().map(|entry| {
        let entity = entry.entity.into_iter().map(|part| {
            EntityData::default()
                .with_entity_type(part.entity_type)
                .with_entity_name(part.entity_name)
        });
        EntryData::default()
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
            .with_error_message(Some(StrBytes::from_static_str("this broker has no quotas")))
            .with_entity(entity.collect())
    });
    Reply::Now(AlterClientQuotasResponse::default().with_entries(entries.collect()))
}
