//! What to do about an error, in one place; and how long to wait before doing it.

use std::time::Duration;

use kafka_protocol::ResponseError;

use crate::error::{Error, ErrorKind};

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing: the caller must see it.
    Fail,
    /// Time: the same again, to the same broker.
    Wait,
    /// Asking who leads, coordinates or controls now, and going there.
    Refresh,
    /// A new connection, and asking as well, since the broker may be gone for good.
    Reconnect,
}

/// What helps against this error.
pub(crate) fn action(error: &Error) -> Action {
    if error.kind() == ErrorKind::Authentication && error.is_retriable() {
        // Credentials that were good a moment ago; `net/standing` says when that is over.
        return Action::Reconnect;
    }
    if let Some(code) = error.code() {
        return ResponseError::try_from_code(code).map_or(Action::Fail, on_code);
    }
    match error.kind() {
        ErrorKind::Io | ErrorKind::Unreachable | ErrorKind::TimedOut if error.is_retriable() => Action::Reconnect,
        ErrorKind::UnknownTopic if error.is_retriable() => Action::Refresh,
        _ => Action::Fail,
    }
}

/// Every code that Kafka has, as of 4.1; what it adds later is for the caller to see.
fn on_code(code: ResponseError) -> Action {
    use ResponseError as E;
    match code {
        E::UnknownTopicOrPartition
        | E::LeaderNotAvailable
        | E::NotLeaderOrFollower
        | E::ReplicaNotAvailable
        | E::BrokerNotAvailable
        | E::NotCoordinator
        | E::CoordinatorNotAvailable
        | E::NotController
        | E::KafkaStorageError
        | E::ListenerNotFound
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::UnknownTopicId
        | E::InconsistentTopicId
        | E::FetchSessionTopicIdError
        | E::PreferredLeaderNotAvailable
        | E::EligibleLeadersNotAvailable
        | E::UnknownControllerId
        | E::RebootstrapRequired => Action::Refresh,

        E::RequestTimedOut
        | E::CoordinatorLoadInProgress
        | E::NotEnoughReplicas
        | E::NotEnoughReplicasAfterAppend
        | E::CorruptMessage
        | E::OffsetNotAvailable
        | E::UnstableOffsetCommit
        | E::ThrottlingQuotaExceeded
        | E::ConcurrentTransactions
        | E::ReassignmentInProgress
        | E::FetchSessionIdNotFound
        | E::InvalidFetchSessionEpoch
        | E::ShareSessionNotFound
        | E::InvalidShareSessionEpoch
        | E::ShareSessionLimitReached
        | E::ElectionNotNeeded => Action::Wait,

        E::NetworkException => Action::Reconnect,

        E::Unknown(_)
        | E::UnknownServerError
        | E::OffsetOutOfRange
        | E::InvalidFetchSize
        | E::MessageTooLarge
        | E::StaleControllerEpoch
        | E::OffsetMetadataTooLarge
        | E::InvalidTopicException
        | E::RecordListTooLarge
        | E::InvalidRequiredAcks
        | E::IllegalGeneration
        | E::InconsistentGroupProtocol
        | E::InvalidGroupId
        | E::UnknownMemberId
        | E::InvalidSessionTimeout
        | E::RebalanceInProgress
        | E::InvalidCommitOffsetSize
        | E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::InvalidTimestamp
        | E::UnsupportedSaslMechanism
        | E::IllegalSaslState
        | E::UnsupportedVersion
        | E::TopicAlreadyExists
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::InvalidRequest
        | E::UnsupportedForMessageFormat
        | E::PolicyViolation
        | E::OutOfOrderSequenceNumber
        | E::DuplicateSequenceNumber
        | E::InvalidProducerEpoch
        | E::InvalidTxnState
        | E::InvalidProducerIdMapping
        | E::InvalidTransactionTimeout
        | E::TransactionCoordinatorFenced
        | E::TransactionalIdAuthorizationFailed
        | E::SecurityDisabled
        | E::OperationNotAttempted
        | E::LogDirNotFound
        | E::SaslAuthenticationFailed
        | E::UnknownProducerId
        | E::DelegationTokenAuthDisabled
        | E::DelegationTokenNotFound
        | E::DelegationTokenOwnerMismatch
        | E::DelegationTokenRequestNotAllowed
        | E::DelegationTokenAuthorizationFailed
        | E::DelegationTokenExpired
        | E::InvalidPrincipalType
        | E::NonEmptyGroup
        | E::GroupIdNotFound
        | E::TopicDeletionDisabled
        | E::UnsupportedCompressionType
        | E::StaleBrokerEpoch
        | E::MemberIdRequired
        | E::GroupMaxSizeReached
        | E::FencedInstanceId
        | E::NoReassignmentInProgress
        | E::GroupSubscribedToTopic
        | E::InvalidRecord
        | E::ProducerFenced
        | E::ResourceNotFound
        | E::DuplicateResource
        | E::UnacceptableCredential
        | E::InconsistentVoterSet
        | E::InvalidUpdateVersion
        | E::FeatureUpdateFailed
        | E::PrincipalDeserializationFailure
        | E::SnapshotNotFound
        | E::PositionOutOfRange
        | E::DuplicateBrokerRegistration
        | E::BrokerIdNotRegistered
        | E::InconsistentClusterId
        | E::TransactionalIdNotFound
        | E::IneligibleReplica
        | E::NewLeaderElected
        | E::OffsetMovedToTieredStorage
        | E::FencedMemberEpoch
        | E::UnreleasedInstanceId
        | E::UnsupportedAssignor
        | E::StaleMemberEpoch
        | E::MismatchedEndpointType
        | E::UnsupportedEndpointType
        | E::UnknownSubscriptionId
        | E::TelemetryTooLarge
        | E::InvalidRegistration
        | E::TransactionAbortable
        | E::InvalidRecordState
        | E::FencedStateEpoch
        | E::InvalidVoterKey
        | E::DuplicateVoter
        | E::VoterNotFound
        | E::InvalidRegularExpression
        | E::StreamsInvalidTopology
        | E::StreamsInvalidTopologyEpoch
        | E::StreamsTopologyFenced => Action::Fail,
    }
}

/// How long to wait before trying again: twice as long each time, and never the same for two who failed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// Before the try that follows `failures` failures, of which there is at least one. Varies by a fifth with `random`.
    pub(crate) fn delay(&self, failures: u32, random: u64) -> Duration {
        let doubled = self.min.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let fifths = 800 + u32::try_from(random % 401).unwrap_or(0);
        doubled.min(self.max).saturating_mul(fifths) / 1000
    }
}

/// Numbers good enough to spread retries: xorshift, the state in and out.
pub(crate) fn next_random(state: u64) -> u64 {
    let mut x = state.max(1);
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_kafka_calls_retriable_is_retried() {
        for code in -1..=200 {
            let error = Error::refused(code);
            if error.is_retriable() && code != 0 {
                assert_ne!(action(&error), Action::Fail, "{error}");
            }
        }
        assert_eq!(action(&Error::refused(9_999)), Action::Fail);
    }

    #[test]
    fn a_moved_leader_is_looked_up_and_a_busy_one_waited_for() {
        assert_eq!(action(&Error::refused(6)), Action::Refresh);
        assert_eq!(action(&Error::refused(41)), Action::Refresh);
        assert_eq!(action(&Error::refused(14)), Action::Wait);
        assert_eq!(action(&Error::refused(29)), Action::Fail);
        assert_eq!(action(&Error::new(ErrorKind::Io, "cut")), Action::Reconnect);
        assert_eq!(action(&Error::closed("client")), Action::Fail);
        assert_eq!(action(&Error::protocol("garbage")), Action::Fail);
    }

    #[test]
    fn delays_double_up_to_the_maximum_and_vary_by_a_fifth() {
        let backoff = Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
        };
        let middle = |failures| backoff.delay(failures, 200).as_millis();
        assert_eq!(
            [1, 2, 3, 4, 5, 60, u32::MAX].map(middle),
            [100, 200, 400, 800, 1000, 1000, 1000]
        );
        assert_eq!(middle(0), 100);
        let mut random = 7;
        for _ in 0..1000 {
            random = next_random(random);
            let delay = backoff.delay(1, random).as_millis();
            assert!((80..=120).contains(&delay), "{delay}");
        }
    }
}
