//! What people ask about a group.

use bytes::Bytes;

use super::{Group, State};
use crate::command::{DescribedGroup, DescribedMember, ListedGroup};

impl Group {
    pub(crate) fn listed(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.to_string(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state.name(),
            group_type: "classic",
        }
    }

    /// The protocol and the subscriptions are those of a generation that is complete; what a
    /// member was assigned before is shown also while the group rebalances, as Kafka does.
    pub(crate) fn described(&self) -> DescribedGroup {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable);
        let member = |member: &super::Member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client: member.client.clone(),
            metadata: protocol.map_or_else(Bytes::new, |protocol| member.metadata(protocol)),
            assignment: member.assignment.clone(),
        };
        DescribedGroup {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: self.in_order().into_iter().map(member).collect(),
        }
    }
}
