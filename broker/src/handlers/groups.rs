//! What the handlers of the group APIs share: names of members, topics of commits, and running a
//! command on the coordinator of a group.

use std::sync::Arc;

use ottla_coordinator::command::{Client, MemberRef};
use ottla_coordinator::{GroupCoordinator, Turn};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{GroupId, StrBytes};

use crate::broker::Groups;
use crate::context::RequestContext;
use crate::coordinators::{Shard, Turned};

/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS, as a bit field.
pub(super) const ALL_GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

const GROUP_VERSION: &str = "group.version";

pub(super) fn owned_text(text: &StrBytes) -> String {
    text.as_str().to_owned()
}

pub(super) fn optional_text(text: Option<&StrBytes>) -> Option<String> {
    text.map(owned_text)
}

pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(super::wire::text(group))
}

/// Who sent the request, as group tools show it.
pub(super) fn client(ctx: &RequestContext<'_>) -> Client {
    Client {
        id: ctx.client_id.unwrap_or_default().to_owned(),
        host: format!("/{}", ctx.peer.ip()),
    }
}

pub(super) fn member(id: &StrBytes, instance: Option<&StrBytes>, generation: i32) -> MemberRef {
    MemberRef {
        member_id: owned_text(id),
        instance_id: optional_text(instance),
        generation,
    }
}

/// Whether consumer groups (KIP-848) are on: the cluster has agreed on them, and this broker is not
/// told to refuse them.
pub(super) fn serves_consumer_groups(groups: &Groups<'_>) -> bool {
    groups.config.consumer_groups && groups.metadata.image().features.level(GROUP_VERSION) > 0
}

/// Runs a command on the coordinator of `group`, which is given back beside the result.
pub(super) fn turn<T>(
    ctx: &RequestContext<'_>,
    group: &str,
    command: impl FnOnce(&mut GroupCoordinator, &mut Turn<'_>) -> T,
) -> Result<(Arc<Shard>, Turned<T>), ErrorCode> {
    let coordinators = &ctx.broker.coordinators;
    let shard = coordinators.of(group)?;
    let turned = coordinators.turn(ctx.broker, &shard, ctx.now, command);
    Ok((shard, turned))
}
