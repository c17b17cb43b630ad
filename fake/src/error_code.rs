//! Kafka's error codes, as far as brokers use them here or tests give them to clients.
//!
//! ```
//! # use klamm_fake::{Action, Api, FakeCluster, error_code};
//! # let cluster = FakeCluster::builder().start()?;
//! cluster.once(Api::Produce, |_| Action::Error(error_code::NOT_ENOUGH_REPLICAS));
//! # Ok::<_, std::io::Error>(())
//! ```

/// The broker does not know what went wrong either.
pub const UNKNOWN_SERVER_ERROR: i16 = -1;
/// Nothing went wrong.
pub const NONE: i16 = 0;
/// There is no such offset in the log.
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
/// A checksum does not match, or a format is none.
pub const CORRUPT_MESSAGE: i16 = 2;
/// The broker knows no such topic or partition.
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// Nobody leads the partition at the moment.
pub const LEADER_NOT_AVAILABLE: i16 = 5;
/// Another broker leads the partition.
pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// The replicas did not have it in time.
pub const REQUEST_TIMED_OUT: i16 = 7;
/// The broker has no such replica.
pub const REPLICA_NOT_AVAILABLE: i16 = 9;
/// A batch is larger than `max.message.bytes`.
pub const MESSAGE_TOO_LARGE: i16 = 10;
/// The coordinator is still reading what it has to know.
pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
/// Nobody coordinates the group at the moment.
pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
/// Another broker coordinates the group.
pub const NOT_COORDINATOR: i16 = 16;
/// This cannot be the name of a topic.
pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
/// Less replicas are in sync than `min.insync.replicas`.
pub const NOT_ENOUGH_REPLICAS: i16 = 19;
/// The same, found out when it was written already.
pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
/// There is no such number of acknowledgements.
pub const INVALID_REQUIRED_ACKS: i16 = 21;
/// The group is in another generation.
pub const ILLEGAL_GENERATION: i16 = 22;
/// The group knows no such member.
pub const UNKNOWN_MEMBER_ID: i16 = 25;
/// The group is rebalancing.
pub const REBALANCE_IN_PROGRESS: i16 = 27;
/// Who asks may not do this to the topic.
pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
/// Who asks may not do this to the group.
pub const GROUP_AUTHORIZATION_FAILED: i16 = 30;
/// A record's time is too far from the broker's.
pub const INVALID_TIMESTAMP: i16 = 32;
/// The broker has no such way to prove who one is.
pub const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
/// This is not what comes next on the way to a session.
pub const ILLEGAL_SASL_STATE: i16 = 34;
/// The broker does not speak this version of a request.
pub const UNSUPPORTED_VERSION: i16 = 35;
/// There is a topic of this name.
pub const TOPIC_ALREADY_EXISTS: i16 = 36;
/// A topic cannot have this number of partitions.
pub const INVALID_PARTITIONS: i16 = 37;
/// There are not so many brokers.
pub const INVALID_REPLICATION_FACTOR: i16 = 38;
/// Replicas cannot be placed so.
pub const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
/// A setting is none, or has a value that it cannot have.
pub const INVALID_CONFIG: i16 = 40;
/// The request contradicts itself.
pub const INVALID_REQUEST: i16 = 42;
/// A batch of this producer is missing before this one.
pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
/// A newer producer has taken over.
pub const INVALID_PRODUCER_EPOCH: i16 = 47;
/// Who asks may not use this transactional ID.
pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
/// The broker cannot use its disk.
pub const KAFKA_STORAGE_ERROR: i16 = 56;
/// Who asks has not proved who it is.
pub const SASL_AUTHENTICATION_FAILED: i16 = 58;
/// The broker knows nothing of this producer.
pub const UNKNOWN_PRODUCER_ID: i16 = 59;
/// The broker has no such fetch session.
pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
/// This is not the next request of its fetch session.
pub const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
/// The client knows of an older leader than the broker.
pub const FENCED_LEADER_EPOCH: i16 = 74;
/// The client knows of a newer leader than the broker.
pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
/// This codec needs a newer version of a request.
pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
/// Another member uses this `group.instance.id`.
pub const FENCED_INSTANCE_ID: i16 = 82;
/// The broker has checked a record and does not take it.
pub const INVALID_RECORD: i16 = 87;
/// A transaction that is open has committed an offset.
pub const UNSTABLE_OFFSET_COMMIT: i16 = 88;
/// The broker knows no topic of this ID.
pub const UNKNOWN_TOPIC_ID: i16 = 100;
/// A fetch session cannot change between names and IDs.
pub const FETCH_SESSION_TOPIC_ID_ERROR: i16 = 106;
/// A controller was asked for what brokers know, or the other way round.
pub const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
/// There is no such kind of endpoint.
pub const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;
