//! What happens in groups, told: a log line that a person understands, and the counters behind
//! `/metrics` and the last rebalance of each group.

use ottla_coordinator::turn::GroupEvent;

use crate::broker::Broker;

pub(super) fn tell(broker: &Broker, event: &GroupEvent) {
    broker.metrics.groups.note(event, broker.clock.wall_ms());
    match event {
        GroupEvent::RebalanceStarted {
            group,
            cause,
            reason,
        } => {
            let cause = cause.name();
            tracing::info!(group, cause, "group {group} rebalances because {reason}");
        }
        GroupEvent::GenerationCompleted {
            group,
            generation,
            members,
        } => {
            tracing::info!(
                group,
                generation,
                members,
                "group {group} has all its members"
            );
        }
        GroupEvent::MemberExpired {
            group,
            member,
            cause,
            reason,
        } => {
            let cause = cause.name();
            tracing::info!(
                group,
                member,
                cause,
                "{member} was removed from group {group}: {reason}"
            );
        }
        GroupEvent::Converted { group, to } => {
            tracing::info!(group, to, "group {group} goes on with the {to} protocol");
        }
        GroupEvent::OffsetsExpired { group, count } => {
            tracing::info!(
                group,
                count,
                "offsets of group {group} were dropped: they are past their retention"
            );
        }
    }
}
