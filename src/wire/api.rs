//! The Kafka APIs that klamm speaks, and which of their versions.

/// One kind of request, by its key in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: &'static str,
    /// The versions klamm can work with, as far as they are narrower than what its codec can encode.
    pub(crate) first: i16,
    pub(crate) last: i16,
}

const fn api(key: i16, name: &'static str, first: i16, last: i16) -> Api {
    Api { key, name, first, last }
}

/// No limit of klamm's own: the codec's newest version.
const ANY: i16 = i16::MAX;

/// Kafka 2.1 is the oldest that is supported; every broker since then offers the first version given here.
pub(crate) const APIS: &[Api] = &[
    api(0, "Produce", 3, 13), // klamm's own encoder
    api(1, "Fetch", 4, ANY),
    api(2, "ListOffsets", 2, ANY), // 2: isolation
    api(3, "Metadata", 4, ANY),    // 4: a read can ask not to create topics
    api(8, "OffsetCommit", 2, ANY),
    api(9, "OffsetFetch", 1, ANY),
    api(10, "FindCoordinator", 1, ANY),
    api(11, "JoinGroup", 0, ANY),
    api(12, "Heartbeat", 0, ANY),
    api(13, "LeaveGroup", 0, ANY),
    api(14, "SyncGroup", 0, ANY),
    api(15, "DescribeGroups", 0, ANY),
    api(16, "ListGroups", 0, ANY),
    api(17, "SaslHandshake", 1, ANY),
    api(18, "ApiVersions", 0, ANY),
    api(19, "CreateTopics", 2, ANY),
    api(20, "DeleteTopics", 1, ANY),
    api(21, "DeleteRecords", 0, ANY),
    api(22, "InitProducerId", 0, ANY),
    api(23, "OffsetForLeaderEpoch", 2, ANY),
    api(32, "DescribeConfigs", 1, ANY),
    api(36, "SaslAuthenticate", 0, ANY),
    api(37, "CreatePartitions", 0, ANY),
    api(42, "DeleteGroups", 0, ANY),
    api(44, "IncrementalAlterConfigs", 0, ANY),
    api(47, "OffsetDelete", 0, ANY),
    api(60, "DescribeCluster", 0, ANY),
    api(68, "ConsumerGroupHeartbeat", 0, ANY),
    api(69, "ConsumerGroupDescribe", 0, ANY),
];

/// What klamm knows of the API with this key; unnamed and unlimited if it is none that klamm speaks.
pub(crate) fn of(key: i16) -> Api {
    APIS.iter()
        .find(|api| api.key == key)
        .copied()
        .unwrap_or(api(key, "an unknown API", 0, ANY))
}

/// The API's name in the protocol's documentation.
pub(crate) fn name(key: i16) -> &'static str {
    of(key).name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_have_the_protocol_s_names() {
        use kafka_protocol::messages::ApiKey;
        for api in APIS {
            let key = ApiKey::try_from(api.key).unwrap();
            assert_eq!(format!("{key:?}"), api.name);
        }
        assert_eq!(name(999), "an unknown API");
    }
}
