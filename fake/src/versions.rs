//! Which versions of which API are offered: what the release offers, as far as it can be read and answered here.

use crate::api::Api;

/// A release of Kafka that the brokers pretend to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// Kafka 2.1: before incremental rebalances, static members, flexible versions and topic IDs.
    V2_1,
    /// Kafka 2.8: before topic IDs in Fetch, and before FindCoordinator took many keys.
    V2_8,
    /// Kafka 3.9: the last release before 4.0.
    V3_9,
    /// Kafka 4.3.
    #[default]
    V4_3,
}

/// What ApiVersions says of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) api: Api,
    pub(crate) first: i16,
    pub(crate) last: i16,
}

/// All that a broker offers, by the APIs' numbers.
pub(crate) fn offers(profile: Profile) -> Vec<Offer> {
    Api::ALL.iter().filter_map(|api| offer(profile, *api)).collect()
}

/// `None` if the release does not know the API.
pub(crate) fn offer(profile: Profile, api: Api) -> Option<Offer> {
    let [v2_1, v2_8, v3_9, v4_3] = released(api);
    let (first, last) = match profile {
        Profile::V2_1 => (0, v2_1),
        Profile::V2_8 => (0, v2_8),
        Profile::V3_9 => (0, v3_9),
        Profile::V4_3 => (first_in_4(api), v4_3),
    };
    let (readable_from, readable_to) = api.readable_versions();
    let (first, last) = (first.max(readable_from), last.min(readable_to));
    (first <= last).then_some(Offer { api, first, last })
}

const NO: i16 = -1;

/// The newest version in Kafka 2.1, 2.8, 3.9 and 4.3: what brokers answer, or what their clients' `ApiKeys` says.
fn released(api: Api) -> [i16; 4] {
    match api {
        Api::Produce => [7, 9, 11, 13],
        Api::Fetch => [10, 12, 17, 18],
        Api::ListOffsets => [4, 6, 9, 11],
        Api::Metadata => [7, 11, 12, 13],
        Api::OffsetCommit => [6, 8, 9, 10],
        Api::OffsetFetch => [5, 7, 9, 10],
        Api::FindCoordinator => [2, 3, 6, 6],
        Api::JoinGroup => [3, 7, 9, 9],
        Api::Heartbeat => [2, 4, 4, 4],
        Api::LeaveGroup => [2, 4, 5, 5],
        Api::SyncGroup => [2, 5, 5, 5],
        Api::DescribeGroups => [2, 5, 5, 6],
        Api::ListGroups => [2, 4, 5, 5],
        Api::SaslHandshake => [1, 1, 1, 1],
        Api::ApiVersions => [2, 3, 4, 4],
        Api::CreateTopics => [3, 7, 7, 7],
        Api::DeleteTopics => [3, 6, 6, 6],
        Api::DeleteRecords => [1, 2, 2, 2],
        Api::InitProducerId => [1, 4, 5, 5],
        Api::OffsetForLeaderEpoch => [2, 4, 4, 4],
        Api::DescribeConfigs => [2, 4, 4, 4],
        Api::SaslAuthenticate => [0, 2, 2, 2],
        Api::CreatePartitions => [1, 3, 3, 3],
        Api::DeleteGroups => [1, 2, 2, 2],
        Api::OffsetDelete => [NO, 0, 0, 0],
        Api::DescribeCluster => [NO, 0, 1, 2],
        Api::ConsumerGroupHeartbeat => [NO, NO, 0, 1],
        Api::ConsumerGroupDescribe => [NO, NO, 0, 1],
    }
}

/// Kafka 4.0 dropped old versions (KIP-896).
fn first_in_4(api: Api) -> i16 {
    match api {
        Api::Fetch => 4,
        Api::OffsetCommit | Api::CreateTopics | Api::OffsetForLeaderEpoch => 2,
        Api::ListOffsets | Api::OffsetFetch | Api::DeleteTopics | Api::DescribeConfigs => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(profile: Profile, api: Api) -> Option<(i16, i16)> {
        offer(profile, api).map(|offer| (offer.first, offer.last))
    }

    #[test]
    fn a_release_offers_its_own_versions() {
        assert_eq!(range(Profile::V2_1, Api::Fetch), Some((4, 10)));
        assert_eq!(range(Profile::V2_8, Api::Fetch), Some((4, 12)));
        assert_eq!(range(Profile::V3_9, Api::Fetch), Some((4, 17)));
        assert_eq!(range(Profile::V4_3, Api::Fetch), Some((4, 18)));
        assert_eq!(range(Profile::V2_1, Api::DescribeCluster), None);
        assert_eq!(range(Profile::V2_8, Api::ConsumerGroupHeartbeat), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_offered() {
        assert_eq!(range(Profile::V4_3, Api::OffsetCommit), Some((2, 10)));
        assert_eq!(range(Profile::V3_9, Api::OffsetCommit), Some((2, 9)));
        assert_eq!(range(Profile::V4_3, Api::ListOffsets), Some((1, 10)));
    }
}
