//! The kinds of requests that the brokers know, and their messages.

mod by_id;

use bytes::Bytes;
use kafka_protocol::{
    messages::{self, ApiKey},
    protocol::{Decodable, HeaderVersion, Message, Request, VersionRange},
};

macro_rules! apis {
    ($($name:ident $request:ident,)*) => {
        /// A kind of request, by its name in Kafka's protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Api {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name,
            )*
        }

        /// A request, taken apart.
        #[derive(Debug, Clone)]
        pub(crate) enum Call {
            $($name(messages::$request),)*
        }

        impl Api {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number in the protocol.
            pub fn key(self) -> i16 {
                match self {
                    $(Self::$name => ApiKey::$name as i16,)*
                }
            }

            /// What the codec reads of it *and* writes as its answer. Its own `valid_versions` is wrong for some.
            fn versions_of_codec(self) -> (i16, i16) {
                match self {
                    $(Self::$name => common::<messages::$request>(),)*
                }
            }

            pub(crate) fn request_header_version(self, version: i16) -> i16 {
                match self {
                    $(Self::$name => messages::$request::header_version(version),)*
                }
            }
        }

        impl Call {
            /// `None` if the bytes are no such request.
            pub(crate) fn decode(api: Api, version: i16, body: &mut Bytes) -> Option<Self> {
                Some(match api {
                    Api::OffsetCommit if version == by_id::VERSION => Self::OffsetCommit(by_id::commit(body)?),
                    Api::OffsetFetch if version == by_id::VERSION => Self::OffsetFetch(by_id::fetch(body)?),
                    $(Api::$name => Self::$name(messages::$request::decode(body, version).ok()?),)*
                })
            }
        }
    };
}

apis! {
    Produce ProduceRequest,
    Fetch FetchRequest,
    ListOffsets ListOffsetsRequest,
    Metadata MetadataRequest,
    OffsetCommit OffsetCommitRequest,
    OffsetFetch OffsetFetchRequest,
    FindCoordinator FindCoordinatorRequest,
    JoinGroup JoinGroupRequest,
    Heartbeat HeartbeatRequest,
    LeaveGroup LeaveGroupRequest,
    SyncGroup SyncGroupRequest,
    DescribeGroups DescribeGroupsRequest,
    ListGroups ListGroupsRequest,
    SaslHandshake SaslHandshakeRequest,
    ApiVersions ApiVersionsRequest,
    CreateTopics CreateTopicsRequest,
    DeleteTopics DeleteTopicsRequest,
    DeleteRecords DeleteRecordsRequest,
    InitProducerId InitProducerIdRequest,
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
    DescribeConfigs DescribeConfigsRequest,
    SaslAuthenticate SaslAuthenticateRequest,
    CreatePartitions CreatePartitionsRequest,
    DeleteGroups DeleteGroupsRequest,
    OffsetDelete OffsetDeleteRequest,
    DescribeCluster DescribeClusterRequest,
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest,
    ConsumerGroupDescribe ConsumerGroupDescribeRequest,
}

impl Api {
    pub(crate) fn of(key: i16) -> Option<Self> {
        Self::ALL.iter().copied().find(|api| api.key() == key)
    }

    /// What can be read of it and answered here.
    pub(crate) fn readable_versions(self) -> (i16, i16) {
        let (first, last) = self.versions_of_codec();
        match self {
            Self::OffsetCommit | Self::OffsetFetch => (first, by_id::VERSION),
            _ => (first, last),
        }
    }
}

fn common<R: Request>() -> (i16, i16) {
    let VersionRange { min, max } = <R as Message>::VERSIONS.intersect(&<R::Response as Message>::VERSIONS);
    (min, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_found_by_its_number() {
        assert_eq!(Api::of(0), Some(Api::Produce));
        assert_eq!(Api::of(18).unwrap().key(), 18);
        assert_eq!(Api::of(999), None);
    }

    #[test]
    fn versions_are_those_that_both_messages_have() {
        assert_eq!(Api::Fetch.readable_versions(), (4, 18));
        assert_eq!(Api::OffsetCommit.versions_of_codec(), (2, 9));
        assert_eq!(Api::OffsetCommit.readable_versions(), (2, 10));
        assert_eq!(Api::InitProducerId.readable_versions(), (0, 5));
    }
}
