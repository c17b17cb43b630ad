// Generated from Kafka's own message definitions by: cargo run -p layout -- kafka-clients-4.3.0.jar

use super::{Field, Kind::*, Layout, NEVER, between, field, nullable, since, tagged};

/// In the order of their API keys.
pub(super) static LAYOUTS: &[Layout] = &[
    // Produce
    Layout {
        api_key: 0,
        versions: between(3, 13),
        flexible: since(9),
        fields: &[
            field("Responses", since(0), Array(&Struct(PRODUCE_TOPIC_PRODUCE_RESPONSE))),
            field("ThrottleTimeMs", since(1), Fixed(4)),
            tagged("NodeEndpoints", since(10), 0, Array(&Struct(PRODUCE_NODE_ENDPOINT))),
        ],
    }, // Fetch
    Layout {
        api_key: 1,
        versions: between(4, 18),
        flexible: since(12),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("ErrorCode", since(7), Fixed(2)),
            field("SessionId", since(7), Fixed(4)),
            field("Responses", since(0), Array(&Struct(FETCH_FETCHABLE_TOPIC_RESPONSE))),
            tagged("NodeEndpoints", since(16), 0, Array(&Struct(FETCH_NODE_ENDPOINT))),
        ],
    }, // ListOffsets
    Layout {
        api_key: 2,
        versions: between(1, 11),
        flexible: since(6),
        fields: &[
            field("ThrottleTimeMs", since(2), Fixed(4)),
            field("Topics", since(0), Array(&Struct(LIST_OFFSETS_TOPIC_RESPONSE))),
        ],
    }, // Metadata
    Layout {
        api_key: 3,
        versions: between(0, 13),
        flexible: since(9),
        fields: &[
            field("ThrottleTimeMs", since(3), Fixed(4)),
            field("Brokers", since(0), Array(&Struct(METADATA_BROKER))),
            nullable("ClusterId", since(2), since(2), String),
            field("ControllerId", since(1), Fixed(4)),
            field("Topics", since(0), Array(&Struct(METADATA_TOPIC))),
            field("ClusterAuthorizedOperations", between(8, 10), Fixed(4)),
            field("ErrorCode", since(13), Fixed(2)),
        ],
    }, // OffsetCommit
    Layout {
        api_key: 8,
        versions: between(2, 10),
        flexible: since(8),
        fields: &[
            field("ThrottleTimeMs", since(3), Fixed(4)),
            field("Topics", since(0), Array(&Struct(OFFSET_COMMIT_TOPIC))),
        ],
    }, // OffsetFetch
    Layout {
        api_key: 9,
        versions: between(1, 10),
        flexible: since(6),
        fields: &[
            field("ThrottleTimeMs", since(3), Fixed(4)),
            field("Topics", between(0, 7), Array(&Struct(OFFSET_FETCH_TOPIC))),
            field("ErrorCode", between(2, 7), Fixed(2)),
            field("Groups", since(8), Array(&Struct(OFFSET_FETCH_GROUP))),
        ],
    }, // FindCoordinator
    Layout {
        api_key: 10,
        versions: between(0, 6),
        flexible: since(3),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("ErrorCode", between(0, 3), Fixed(2)),
            nullable("ErrorMessage", between(1, 3), between(1, 3), String),
            field("NodeId", between(0, 3), Fixed(4)),
            field("Host", between(0, 3), String),
            field("Port", between(0, 3), Fixed(4)),
            field("Coordinators", since(4), Array(&Struct(FIND_COORDINATOR_COORDINATOR))),
        ],
    }, // JoinGroup
    Layout {
        api_key: 11,
        versions: between(0, 9),
        flexible: since(6),
        fields: &[
            field("ThrottleTimeMs", since(2), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            field("GenerationId", since(0), Fixed(4)),
            nullable("ProtocolType", since(7), since(7), String),
            nullable("ProtocolName", since(0), since(7), String),
            field("Leader", since(0), String),
            field("SkipAssignment", since(9), Fixed(1)),
            field("MemberId", since(0), String),
            field("Members", since(0), Array(&Struct(JOIN_GROUP_MEMBER))),
        ],
    }, // Heartbeat
    Layout {
        api_key: 12,
        versions: between(0, 4),
        flexible: since(4),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
        ],
    }, // LeaveGroup
    Layout {
        api_key: 13,
        versions: between(0, 5),
        flexible: since(4),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            field("Members", since(3), Array(&Struct(LEAVE_GROUP_MEMBER_RESPONSE))),
        ],
    }, // SyncGroup
    Layout {
        api_key: 14,
        versions: between(0, 5),
        flexible: since(4),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            nullable("ProtocolType", since(5), since(5), String),
            nullable("ProtocolName", since(5), since(5), String),
            field("Assignment", since(0), Bytes),
        ],
    }, // DescribeGroups
    Layout {
        api_key: 15,
        versions: between(0, 6),
        flexible: since(5),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("Groups", since(0), Array(&Struct(DESCRIBE_GROUPS_DESCRIBED_GROUP))),
        ],
    }, // ListGroups
    Layout {
        api_key: 16,
        versions: between(0, 5),
        flexible: since(3),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            field("Groups", since(0), Array(&Struct(LIST_GROUPS_LISTED_GROUP))),
        ],
    }, // SaslHandshake
    Layout {
        api_key: 17,
        versions: between(0, 1),
        flexible: NEVER,
        fields: &[
            field("ErrorCode", since(0), Fixed(2)),
            field("Mechanisms", since(0), Array(&String)),
        ],
    }, // ApiVersions
    Layout {
        api_key: 18,
        versions: between(0, 4),
        flexible: since(3),
        fields: &[
            field("ErrorCode", since(0), Fixed(2)),
            field("ApiKeys", since(0), Array(&Struct(API_VERSIONS_API_VERSION))),
            field("ThrottleTimeMs", since(1), Fixed(4)),
            tagged(
                "SupportedFeatures",
                since(3),
                0,
                Array(&Struct(API_VERSIONS_SUPPORTED_FEATURE_KEY)),
            ),
            tagged("FinalizedFeaturesEpoch", since(3), 1, Fixed(8)),
            tagged(
                "FinalizedFeatures",
                since(3),
                2,
                Array(&Struct(API_VERSIONS_FINALIZED_FEATURE_KEY)),
            ),
            tagged("ZkMigrationReady", since(3), 3, Fixed(1)),
        ],
    }, // CreateTopics
    Layout {
        api_key: 19,
        versions: between(2, 7),
        flexible: since(5),
        fields: &[
            field("ThrottleTimeMs", since(2), Fixed(4)),
            field("Topics", since(0), Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC_RESULT))),
        ],
    }, // DeleteTopics
    Layout {
        api_key: 20,
        versions: between(1, 6),
        flexible: since(4),
        fields: &[
            field("ThrottleTimeMs", since(1), Fixed(4)),
            field(
                "Responses",
                since(0),
                Array(&Struct(DELETE_TOPICS_DELETABLE_TOPIC_RESULT)),
            ),
        ],
    }, // DeleteRecords
    Layout {
        api_key: 21,
        versions: between(0, 2),
        flexible: since(2),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("Topics", since(0), Array(&Struct(DELETE_RECORDS_TOPIC_RESULT))),
        ],
    }, // InitProducerId
    Layout {
        api_key: 22,
        versions: between(0, 6),
        flexible: since(2),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            field("ProducerId", since(0), Fixed(8)),
            field("ProducerEpoch", since(0), Fixed(2)),
            field("OngoingTxnProducerId", since(6), Fixed(8)),
            field("OngoingTxnProducerEpoch", since(6), Fixed(2)),
        ],
    }, // OffsetForLeaderEpoch
    Layout {
        api_key: 23,
        versions: between(2, 4),
        flexible: since(4),
        fields: &[
            field("ThrottleTimeMs", since(2), Fixed(4)),
            field(
                "Topics",
                since(0),
                Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC_RESULT)),
            ),
        ],
    }, // AddPartitionsToTxn
    Layout {
        api_key: 24,
        versions: between(0, 5),
        flexible: since(3),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("ErrorCode", since(4), Fixed(2)),
            field(
                "ResultsByTransaction",
                since(4),
                Array(&Struct(ADD_PARTITIONS_TO_TXN_RESULT)),
            ),
            field(
                "ResultsByTopicV3AndBelow",
                between(0, 3),
                Array(&Struct(ADD_PARTITIONS_TO_TXN_TOPIC_RESULT)),
            ),
        ],
    }, // AddOffsetsToTxn
    Layout {
        api_key: 25,
        versions: between(0, 4),
        flexible: since(3),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
        ],
    }, // EndTxn
    Layout {
        api_key: 26,
        versions: between(0, 5),
        flexible: since(3),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            field("ProducerId", since(5), Fixed(8)),
            field("ProducerEpoch", since(5), Fixed(2)),
        ],
    }, // TxnOffsetCommit
    Layout {
        api_key: 28,
        versions: between(0, 5),
        flexible: since(3),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("Topics", since(0), Array(&Struct(TXN_OFFSET_COMMIT_TOPIC))),
        ],
    }, // DescribeConfigs
    Layout {
        api_key: 32,
        versions: between(1, 4),
        flexible: since(4),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("Results", since(0), Array(&Struct(DESCRIBE_CONFIGS_RESULT))),
        ],
    }, // SaslAuthenticate
    Layout {
        api_key: 36,
        versions: between(0, 2),
        flexible: since(2),
        fields: &[
            field("ErrorCode", since(0), Fixed(2)),
            nullable("ErrorMessage", since(0), since(0), String),
            field("AuthBytes", since(0), Bytes),
            field("SessionLifetimeMs", since(1), Fixed(8)),
        ],
    }, // CreatePartitions
    Layout {
        api_key: 37,
        versions: between(0, 3),
        flexible: since(2),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("Results", since(0), Array(&Struct(CREATE_PARTITIONS_TOPIC_RESULT))),
        ],
    }, // DeleteGroups
    Layout {
        api_key: 42,
        versions: between(0, 2),
        flexible: since(2),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field(
                "Results",
                since(0),
                Array(&Struct(DELETE_GROUPS_DELETABLE_GROUP_RESULT)),
            ),
        ],
    }, // IncrementalAlterConfigs
    Layout {
        api_key: 44,
        versions: between(0, 1),
        flexible: since(1),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field(
                "Responses",
                since(0),
                Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE_RESPONSE)),
            ),
        ],
    }, // OffsetDelete
    Layout {
        api_key: 47,
        versions: between(0, 0),
        flexible: NEVER,
        fields: &[
            field("ErrorCode", since(0), Fixed(2)),
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("Topics", since(0), Array(&Struct(OFFSET_DELETE_TOPIC))),
        ],
    }, // DescribeCluster
    Layout {
        api_key: 60,
        versions: between(0, 2),
        flexible: since(0),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            nullable("ErrorMessage", since(0), since(0), String),
            field("EndpointType", since(1), Fixed(1)),
            field("ClusterId", since(0), String),
            field("ControllerId", since(0), Fixed(4)),
            field("Brokers", since(0), Array(&Struct(DESCRIBE_CLUSTER_BROKER))),
            field("ClusterAuthorizedOperations", since(0), Fixed(4)),
        ],
    }, // ConsumerGroupHeartbeat
    Layout {
        api_key: 68,
        versions: between(0, 1),
        flexible: since(0),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("ErrorCode", since(0), Fixed(2)),
            nullable("ErrorMessage", since(0), since(0), String),
            nullable("MemberId", since(0), since(0), String),
            field("MemberEpoch", since(0), Fixed(4)),
            field("HeartbeatIntervalMs", since(0), Fixed(4)),
            nullable(
                "Assignment",
                since(0),
                since(0),
                Struct(CONSUMER_GROUP_HEARTBEAT_ASSIGNMENT),
            ),
        ],
    }, // ConsumerGroupDescribe
    Layout {
        api_key: 69,
        versions: between(0, 1),
        flexible: since(0),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field(
                "Groups",
                since(0),
                Array(&Struct(CONSUMER_GROUP_DESCRIBE_DESCRIBED_GROUP)),
            ),
        ],
    }, // DescribeTopicPartitions
    Layout {
        api_key: 75,
        versions: between(0, 0),
        flexible: since(0),
        fields: &[
            field("ThrottleTimeMs", since(0), Fixed(4)),
            field("Topics", since(0), Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_TOPIC))),
            nullable(
                "NextCursor",
                since(0),
                since(0),
                Struct(DESCRIBE_TOPIC_PARTITIONS_CURSOR),
            ),
        ],
    },
];

const PRODUCE_BATCH_INDEX_AND_ERROR_MESSAGE: &[Field] = &[
    field("BatchIndex", since(8), Fixed(4)),
    nullable("BatchIndexErrorMessage", since(8), since(8), String),
];

const PRODUCE_LEADER_ID_AND_EPOCH: &[Field] = &[
    field("LeaderId", since(10), Fixed(4)),
    field("LeaderEpoch", since(10), Fixed(4)),
];

const PRODUCE_NODE_ENDPOINT: &[Field] = &[
    field("NodeId", since(10), Fixed(4)),
    field("Host", since(10), String),
    field("Port", since(10), Fixed(4)),
    nullable("Rack", since(10), since(10), String),
];

const PRODUCE_PARTITION_PRODUCE_RESPONSE: &[Field] = &[
    field("Index", since(0), Fixed(4)),
    field("ErrorCode", since(0), Fixed(2)),
    field("BaseOffset", since(0), Fixed(8)),
    field("LogAppendTimeMs", since(2), Fixed(8)),
    field("LogStartOffset", since(5), Fixed(8)),
    field(
        "RecordErrors",
        since(8),
        Array(&Struct(PRODUCE_BATCH_INDEX_AND_ERROR_MESSAGE)),
    ),
    nullable("ErrorMessage", since(8), since(8), String),
    tagged("CurrentLeader", since(10), 0, Struct(PRODUCE_LEADER_ID_AND_EPOCH)),
];

const PRODUCE_TOPIC_PRODUCE_RESPONSE: &[Field] = &[
    field("Name", between(0, 12), String),
    field("TopicId", since(13), Fixed(16)),
    field(
        "PartitionResponses",
        since(0),
        Array(&Struct(PRODUCE_PARTITION_PRODUCE_RESPONSE)),
    ),
];

const FETCH_ABORTED_TRANSACTION: &[Field] = &[
    field("ProducerId", since(4), Fixed(8)),
    field("FirstOffset", since(4), Fixed(8)),
];

const FETCH_EPOCH_END_OFFSET: &[Field] = &[
    field("Epoch", since(12), Fixed(4)),
    field("EndOffset", since(12), Fixed(8)),
];

const FETCH_FETCHABLE_TOPIC_RESPONSE: &[Field] = &[
    field("Topic", between(0, 12), String),
    field("TopicId", since(13), Fixed(16)),
    field("Partitions", since(0), Array(&Struct(FETCH_PARTITION_DATA))),
];

const FETCH_LEADER_ID_AND_EPOCH: &[Field] = &[
    field("LeaderId", since(12), Fixed(4)),
    field("LeaderEpoch", since(12), Fixed(4)),
];

const FETCH_NODE_ENDPOINT: &[Field] = &[
    field("NodeId", since(16), Fixed(4)),
    field("Host", since(16), String),
    field("Port", since(16), Fixed(4)),
    nullable("Rack", since(16), since(16), String),
];

const FETCH_PARTITION_DATA: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("ErrorCode", since(0), Fixed(2)),
    field("HighWatermark", since(0), Fixed(8)),
    field("LastStableOffset", since(4), Fixed(8)),
    field("LogStartOffset", since(5), Fixed(8)),
    tagged("DivergingEpoch", since(12), 0, Struct(FETCH_EPOCH_END_OFFSET)),
    tagged("CurrentLeader", since(12), 1, Struct(FETCH_LEADER_ID_AND_EPOCH)),
    tagged("SnapshotId", since(12), 2, Struct(FETCH_SNAPSHOT_ID)),
    nullable(
        "AbortedTransactions",
        since(4),
        since(4),
        Array(&Struct(FETCH_ABORTED_TRANSACTION)),
    ),
    field("PreferredReadReplica", since(11), Fixed(4)),
    nullable("Records", since(0), since(0), Bytes),
];

const FETCH_SNAPSHOT_ID: &[Field] = &[
    field("EndOffset", since(0), Fixed(8)),
    field("Epoch", since(0), Fixed(4)),
];

const LIST_OFFSETS_PARTITION_RESPONSE: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("ErrorCode", since(0), Fixed(2)),
    field("Timestamp", since(1), Fixed(8)),
    field("Offset", since(1), Fixed(8)),
    field("LeaderEpoch", since(4), Fixed(4)),
];

const LIST_OFFSETS_TOPIC_RESPONSE: &[Field] = &[
    field("Name", since(0), String),
    field("Partitions", since(0), Array(&Struct(LIST_OFFSETS_PARTITION_RESPONSE))),
];

const METADATA_BROKER: &[Field] = &[
    field("NodeId", since(0), Fixed(4)),
    field("Host", since(0), String),
    field("Port", since(0), Fixed(4)),
    nullable("Rack", since(1), since(1), String),
];

const METADATA_PARTITION: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    field("PartitionIndex", since(0), Fixed(4)),
    field("LeaderId", since(0), Fixed(4)),
    field("LeaderEpoch", since(7), Fixed(4)),
    field("ReplicaNodes", since(0), Array(&Fixed(4))),
    field("IsrNodes", since(0), Array(&Fixed(4))),
    field("OfflineReplicas", since(5), Array(&Fixed(4))),
];

const METADATA_TOPIC: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    nullable("Name", since(0), since(12), String),
    field("TopicId", since(10), Fixed(16)),
    field("IsInternal", since(1), Fixed(1)),
    field("Partitions", since(0), Array(&Struct(METADATA_PARTITION))),
    field("TopicAuthorizedOperations", since(8), Fixed(4)),
];

const OFFSET_COMMIT_PARTITION: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("ErrorCode", since(0), Fixed(2)),
];

const OFFSET_COMMIT_TOPIC: &[Field] = &[
    field("Name", between(0, 9), String),
    field("TopicId", since(10), Fixed(16)),
    field("Partitions", since(0), Array(&Struct(OFFSET_COMMIT_PARTITION))),
];

const OFFSET_FETCH_GROUP: &[Field] = &[
    field("GroupId", since(8), String),
    field("Topics", since(8), Array(&Struct(OFFSET_FETCH_TOPICS))),
    field("ErrorCode", since(8), Fixed(2)),
];

const OFFSET_FETCH_PARTITION: &[Field] = &[
    field("PartitionIndex", between(0, 7), Fixed(4)),
    field("CommittedOffset", between(0, 7), Fixed(8)),
    field("CommittedLeaderEpoch", between(5, 7), Fixed(4)),
    nullable("Metadata", between(0, 7), between(0, 7), String),
    field("ErrorCode", between(0, 7), Fixed(2)),
];

const OFFSET_FETCH_PARTITIONS: &[Field] = &[
    field("PartitionIndex", since(8), Fixed(4)),
    field("CommittedOffset", since(8), Fixed(8)),
    field("CommittedLeaderEpoch", since(8), Fixed(4)),
    nullable("Metadata", since(8), since(8), String),
    field("ErrorCode", since(8), Fixed(2)),
];

const OFFSET_FETCH_TOPIC: &[Field] = &[
    field("Name", between(0, 7), String),
    field("Partitions", between(0, 7), Array(&Struct(OFFSET_FETCH_PARTITION))),
];

const OFFSET_FETCH_TOPICS: &[Field] = &[
    field("Name", between(8, 9), String),
    field("TopicId", since(10), Fixed(16)),
    field("Partitions", since(8), Array(&Struct(OFFSET_FETCH_PARTITIONS))),
];

const FIND_COORDINATOR_COORDINATOR: &[Field] = &[
    field("Key", since(4), String),
    field("NodeId", since(4), Fixed(4)),
    field("Host", since(4), String),
    field("Port", since(4), Fixed(4)),
    field("ErrorCode", since(4), Fixed(2)),
    nullable("ErrorMessage", since(4), since(4), String),
];

const JOIN_GROUP_MEMBER: &[Field] = &[
    field("MemberId", since(0), String),
    nullable("GroupInstanceId", since(5), since(5), String),
    field("Metadata", since(0), Bytes),
];

const LEAVE_GROUP_MEMBER_RESPONSE: &[Field] = &[
    field("MemberId", since(3), String),
    nullable("GroupInstanceId", since(3), since(3), String),
    field("ErrorCode", since(3), Fixed(2)),
];

const DESCRIBE_GROUPS_DESCRIBED_GROUP: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(6), since(6), String),
    field("GroupId", since(0), String),
    field("GroupState", since(0), String),
    field("ProtocolType", since(0), String),
    field("ProtocolData", since(0), String),
    field(
        "Members",
        since(0),
        Array(&Struct(DESCRIBE_GROUPS_DESCRIBED_GROUP_MEMBER)),
    ),
    field("AuthorizedOperations", since(3), Fixed(4)),
];

const DESCRIBE_GROUPS_DESCRIBED_GROUP_MEMBER: &[Field] = &[
    field("MemberId", since(0), String),
    nullable("GroupInstanceId", since(4), since(4), String),
    field("ClientId", since(0), String),
    field("ClientHost", since(0), String),
    field("MemberMetadata", since(0), Bytes),
    field("MemberAssignment", since(0), Bytes),
];

const LIST_GROUPS_LISTED_GROUP: &[Field] = &[
    field("GroupId", since(0), String),
    field("ProtocolType", since(0), String),
    field("GroupState", since(4), String),
    field("GroupType", since(5), String),
];

const API_VERSIONS_API_VERSION: &[Field] = &[
    field("ApiKey", since(0), Fixed(2)),
    field("MinVersion", since(0), Fixed(2)),
    field("MaxVersion", since(0), Fixed(2)),
];

const API_VERSIONS_FINALIZED_FEATURE_KEY: &[Field] = &[
    field("Name", since(3), String),
    field("MaxVersionLevel", since(3), Fixed(2)),
    field("MinVersionLevel", since(3), Fixed(2)),
];

const API_VERSIONS_SUPPORTED_FEATURE_KEY: &[Field] = &[
    field("Name", since(3), String),
    field("MinVersion", since(3), Fixed(2)),
    field("MaxVersion", since(3), Fixed(2)),
];

const CREATE_TOPICS_CREATABLE_TOPIC_CONFIGS: &[Field] = &[
    field("Name", since(5), String),
    nullable("Value", since(5), since(5), String),
    field("ReadOnly", since(5), Fixed(1)),
    field("ConfigSource", since(5), Fixed(1)),
    field("IsSensitive", since(5), Fixed(1)),
];

const CREATE_TOPICS_CREATABLE_TOPIC_RESULT: &[Field] = &[
    field("Name", since(0), String),
    field("TopicId", since(7), Fixed(16)),
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(1), since(0), String),
    tagged("TopicConfigErrorCode", since(5), 0, Fixed(2)),
    field("NumPartitions", since(5), Fixed(4)),
    field("ReplicationFactor", since(5), Fixed(2)),
    nullable(
        "Configs",
        since(5),
        since(5),
        Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC_CONFIGS)),
    ),
];

const DELETE_TOPICS_DELETABLE_TOPIC_RESULT: &[Field] = &[
    nullable("Name", since(0), since(6), String),
    field("TopicId", since(6), Fixed(16)),
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(5), since(5), String),
];

const DELETE_RECORDS_PARTITION_RESULT: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("LowWatermark", since(0), Fixed(8)),
    field("ErrorCode", since(0), Fixed(2)),
];

const DELETE_RECORDS_TOPIC_RESULT: &[Field] = &[
    field("Name", since(0), String),
    field("Partitions", since(0), Array(&Struct(DELETE_RECORDS_PARTITION_RESULT))),
];

const OFFSET_FOR_LEADER_EPOCH_EPOCH_END_OFFSET: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    field("Partition", since(0), Fixed(4)),
    field("LeaderEpoch", since(1), Fixed(4)),
    field("EndOffset", since(0), Fixed(8)),
];

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC_RESULT: &[Field] = &[
    field("Topic", since(0), String),
    field(
        "Partitions",
        since(0),
        Array(&Struct(OFFSET_FOR_LEADER_EPOCH_EPOCH_END_OFFSET)),
    ),
];

const ADD_PARTITIONS_TO_TXN_PARTITION_RESULT: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("PartitionErrorCode", since(0), Fixed(2)),
];

const ADD_PARTITIONS_TO_TXN_RESULT: &[Field] = &[
    field("TransactionalId", since(4), String),
    field(
        "TopicResults",
        since(4),
        Array(&Struct(ADD_PARTITIONS_TO_TXN_TOPIC_RESULT)),
    ),
];

const ADD_PARTITIONS_TO_TXN_TOPIC_RESULT: &[Field] = &[
    field("Name", since(0), String),
    field(
        "ResultsByPartition",
        since(0),
        Array(&Struct(ADD_PARTITIONS_TO_TXN_PARTITION_RESULT)),
    ),
];

const TXN_OFFSET_COMMIT_PARTITION: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("ErrorCode", since(0), Fixed(2)),
];

const TXN_OFFSET_COMMIT_TOPIC: &[Field] = &[
    field("Name", since(0), String),
    field("Partitions", since(0), Array(&Struct(TXN_OFFSET_COMMIT_PARTITION))),
];

const DESCRIBE_CONFIGS_RESOURCE_RESULT: &[Field] = &[
    field("Name", since(0), String),
    nullable("Value", since(0), since(0), String),
    field("ReadOnly", since(0), Fixed(1)),
    field("ConfigSource", since(1), Fixed(1)),
    field("IsSensitive", since(0), Fixed(1)),
    field("Synonyms", since(1), Array(&Struct(DESCRIBE_CONFIGS_SYNONYM))),
    field("ConfigType", since(3), Fixed(1)),
    nullable("Documentation", since(3), since(0), String),
];

const DESCRIBE_CONFIGS_RESULT: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(0), since(0), String),
    field("ResourceType", since(0), Fixed(1)),
    field("ResourceName", since(0), String),
    field("Configs", since(0), Array(&Struct(DESCRIBE_CONFIGS_RESOURCE_RESULT))),
];

const DESCRIBE_CONFIGS_SYNONYM: &[Field] = &[
    field("Name", since(1), String),
    nullable("Value", since(1), since(0), String),
    field("Source", since(1), Fixed(1)),
];

const CREATE_PARTITIONS_TOPIC_RESULT: &[Field] = &[
    field("Name", since(0), String),
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(0), since(0), String),
];

const DELETE_GROUPS_DELETABLE_GROUP_RESULT: &[Field] = &[
    field("GroupId", since(0), String),
    field("ErrorCode", since(0), Fixed(2)),
];

const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE_RESPONSE: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(0), since(0), String),
    field("ResourceType", since(0), Fixed(1)),
    field("ResourceName", since(0), String),
];

const OFFSET_DELETE_PARTITION: &[Field] = &[
    field("PartitionIndex", since(0), Fixed(4)),
    field("ErrorCode", since(0), Fixed(2)),
];

const OFFSET_DELETE_TOPIC: &[Field] = &[
    field("Name", since(0), String),
    field("Partitions", since(0), Array(&Struct(OFFSET_DELETE_PARTITION))),
];

const DESCRIBE_CLUSTER_BROKER: &[Field] = &[
    field("BrokerId", since(0), Fixed(4)),
    field("Host", since(0), String),
    field("Port", since(0), Fixed(4)),
    nullable("Rack", since(0), since(0), String),
    field("IsFenced", since(2), Fixed(1)),
];

const CONSUMER_GROUP_HEARTBEAT_ASSIGNMENT: &[Field] = &[field(
    "TopicPartitions",
    since(0),
    Array(&Struct(CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS)),
)];

const CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS: &[Field] = &[
    field("TopicId", since(0), Fixed(16)),
    field("Partitions", since(0), Array(&Fixed(4))),
];

const CONSUMER_GROUP_DESCRIBE_ASSIGNMENT: &[Field] = &[field(
    "TopicPartitions",
    since(0),
    Array(&Struct(CONSUMER_GROUP_DESCRIBE_TOPIC_PARTITIONS)),
)];

const CONSUMER_GROUP_DESCRIBE_DESCRIBED_GROUP: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    nullable("ErrorMessage", since(0), since(0), String),
    field("GroupId", since(0), String),
    field("GroupState", since(0), String),
    field("GroupEpoch", since(0), Fixed(4)),
    field("AssignmentEpoch", since(0), Fixed(4)),
    field("AssignorName", since(0), String),
    field("Members", since(0), Array(&Struct(CONSUMER_GROUP_DESCRIBE_MEMBER))),
    field("AuthorizedOperations", since(0), Fixed(4)),
];

const CONSUMER_GROUP_DESCRIBE_MEMBER: &[Field] = &[
    field("MemberId", since(0), String),
    nullable("InstanceId", since(0), since(0), String),
    nullable("RackId", since(0), since(0), String),
    field("MemberEpoch", since(0), Fixed(4)),
    field("ClientId", since(0), String),
    field("ClientHost", since(0), String),
    field("SubscribedTopicNames", since(0), Array(&String)),
    nullable("SubscribedTopicRegex", since(0), since(0), String),
    field("Assignment", since(0), Struct(CONSUMER_GROUP_DESCRIBE_ASSIGNMENT)),
    field("TargetAssignment", since(0), Struct(CONSUMER_GROUP_DESCRIBE_ASSIGNMENT)),
    field("MemberType", since(1), Fixed(1)),
];

const CONSUMER_GROUP_DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field("TopicId", since(0), Fixed(16)),
    field("TopicName", since(0), String),
    field("Partitions", since(0), Array(&Fixed(4))),
];

const DESCRIBE_TOPIC_PARTITIONS_CURSOR: &[Field] = &[
    field("TopicName", since(0), String),
    field("PartitionIndex", since(0), Fixed(4)),
];

const DESCRIBE_TOPIC_PARTITIONS_PARTITION: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    field("PartitionIndex", since(0), Fixed(4)),
    field("LeaderId", since(0), Fixed(4)),
    field("LeaderEpoch", since(0), Fixed(4)),
    field("ReplicaNodes", since(0), Array(&Fixed(4))),
    field("IsrNodes", since(0), Array(&Fixed(4))),
    nullable("EligibleLeaderReplicas", since(0), since(0), Array(&Fixed(4))),
    nullable("LastKnownElr", since(0), since(0), Array(&Fixed(4))),
    field("OfflineReplicas", since(0), Array(&Fixed(4))),
];

const DESCRIBE_TOPIC_PARTITIONS_TOPIC: &[Field] = &[
    field("ErrorCode", since(0), Fixed(2)),
    nullable("Name", since(0), since(0), String),
    field("TopicId", since(0), Fixed(16)),
    field("IsInternal", since(0), Fixed(1)),
    field(
        "Partitions",
        since(0),
        Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_PARTITION)),
    ),
    field("TopicAuthorizedOperations", since(0), Fixed(4)),
];
