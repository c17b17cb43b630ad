//! What is told of groups: DescribeGroups, ConsumerGroupDescribe, ListGroups; and what takes them away: DeleteGroups,
//! OffsetDelete.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response as consumer_described;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{GroupId, ListGroupsRequest, OffsetDeleteRequest, OffsetDeleteResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Group, Groups, Topics, text};

impl Groups {
    /// One of DescribeGroups, which knows only classic groups.
    pub(crate) fn describe(&self, group_id: &GroupId, version: i16) -> DescribedGroup {
        let described = DescribedGroup::default().with_group_id(group_id.clone());
        let group = match self.groups.get(group_id.as_str()).map(|entry| &entry.group) {
            Some(Group::Classic(group)) => group,
            other => {
                let dead = described.with_group_state(StrBytes::from_static_str("Dead"));
                if version < FIRST_THAT_SAYS_NOT_FOUND {
                    return dead;
                }
                let is_not = if other.is_some() {
                    "is not a classic group"
                } else {
                    "not found"
                };
                return dead
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(Some(text(&format!("Group {} {is_not}.", group_id.as_str()))));
            }
        };
        let (protocol, members) = group.described();
        let members = members.into_iter().map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(&member.member_id))
                .with_group_instance_id(member.instance_id.as_deref().map(text))
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.client_host))
                .with_member_metadata(member.metadata)
                .with_member_assignment(member.assignment)
        });
        described
            .with_group_state(text(group.state_name()))
            .with_protocol_type(text(group.protocol_type()))
            .with_protocol_data(text(&protocol))
            .with_members(members.collect())
    }

    /// One of ConsumerGroupDescribe.
    pub(crate) fn describe_consumers(
        &self,
        group_id: &GroupId,
        topics: &impl Topics,
        version: i16,
    ) -> consumer_described::DescribedGroup {
        let refuse = |error: ResponseError, message: String| {
            consumer_described::DescribedGroup::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(&message)))
        };
        let described = match self.groups.get(group_id.as_str()).map(|entry| &entry.group) {
            Some(Group::Consumer(group)) => group.described(topics, version),
            Some(Group::Classic(_)) => {
                let message = format!("Group {} is not a consumer group.", group_id.as_str());
                refuse(ResponseError::GroupIdNotFound, message)
            }
            None => refuse(
                ResponseError::GroupIdNotFound,
                format!("Group {} not found.", group_id.as_str()),
            ),
        };
        described.with_group_id(group_id.clone())
    }

    /// The groups of which `is_ours` is true that a request asks for.
    pub(crate) fn list(&self, request: &ListGroupsRequest, is_ours: impl Fn(&str) -> bool) -> Vec<ListedGroup> {
        let asked_for = |filter: &[StrBytes], what: &str| {
            filter.is_empty() || filter.iter().any(|asked| asked.trim().eq_ignore_ascii_case(what))
        };
        let groups = self.groups.iter().filter(|(group_id, entry)| {
            is_ours(group_id)
                && asked_for(&request.states_filter, entry.group.state_name())
                && asked_for(&request.types_filter, entry.group.type_name())
        });
        let listed = groups.map(|(group_id, entry)| {
            ListedGroup::default()
                .with_group_id(GroupId(text(group_id)))
                .with_protocol_type(text(entry.group.protocol_type()))
                .with_group_state(text(entry.group.state_name()))
                .with_group_type(text(entry.group.type_name()))
        });
        listed.collect()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    pub(crate) fn delete(&mut self, group_id: &str) -> Result<(), ResponseError> {
        match self.groups.get(group_id) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(entry) if !entry.group.is_empty() => Err(ResponseError::NonEmptyGroup),
            Some(_) => {
                self.groups.remove(group_id);
                Ok(())
            }
        }
    }

    /// Forgets what was committed of topics that nobody in the group reads.
    pub(crate) fn delete_offsets(
        &mut self,
        request: &OffsetDeleteRequest,
        topics: &impl Topics,
    ) -> OffsetDeleteResponse {
        let refuse = |error: ResponseError| OffsetDeleteResponse::default().with_error_code(error.code());
        let Some(entry) = self.groups.get_mut(request.group_id.as_str()) else {
            return refuse(ResponseError::GroupIdNotFound);
        };
        if !entry.group.lets_offsets_be_deleted() {
            return refuse(ResponseError::NonEmptyGroup);
        }
        let mut response = OffsetDeleteResponse::default();
        for topic in &request.topics {
            let name = topic.name.as_str();
            let is_read = entry.group.is_subscribed_to(name);
            let count = topics.find(name).map_or(0, |(_, count)| count);
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let outcome = match is_read {
                    _ if !(0..count).contains(&index) => Err(ResponseError::UnknownTopicOrPartition),
                    true => Err(ResponseError::GroupSubscribedToTopic),
                    false => {
                        entry.offsets.remove(name, index);
                        Ok(())
                    }
                };
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(super::code(outcome))
            });
            let partitions = partitions.collect();
            response.topics.push(
                OffsetDeleteResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        response
    }
}

impl Group {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }

    fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(group) => group.protocol_type(),
            Self::Consumer(_) => "consumer",
        }
    }

    fn lets_offsets_be_deleted(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty() || group.uses_consumer_protocol(),
            Self::Consumer(_) => true,
        }
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
        }
    }
}

const FIRST_THAT_SAYS_NOT_FOUND: i16 = 6;
