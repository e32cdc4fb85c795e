//! The errors of this crate and Kafka's error codes.
//!
//! [`DecodeError`] is `Copy` and allocates nothing: it is made for every hostile frame.
//! [`ErrorCode`] is the `i16` of the wire with Kafka's names; an unknown code keeps its number.

use std::fmt;

use thiserror::Error;

/// Why bytes from a peer are not the message they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("{needed} bytes expected, {remaining} left")]
    Truncated { needed: usize, remaining: usize },
    #[error("a length is negative")]
    NegativeLength,
    #[error("a varint does not end or does not fit its type")]
    VarintTooLong,
    #[error("a field that cannot be null is null")]
    NullNotAllowed,
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    #[error("an array of {count} elements cannot fit in the bytes left")]
    CountBeyondBody { count: usize },
    #[error("the arrays of the request have more than {max} elements")]
    TooManyElements { max: u32 },
    #[error("{count} tagged fields in one section")]
    TooManyTaggedFields { count: u32 },
    #[error("tagged field {tag} repeats or is out of order")]
    TagOrder { tag: u32 },
    #[error("tagged field {tag} has bytes after its value")]
    TagSize { tag: u32 },
    #[error("tagged field {tag} does not exist in this version")]
    TagVersion { tag: u32 },
    #[error("a struct that may be null starts with {found}, not with 1 or -1")]
    StructMarker { found: i8 },
    #[error("decoding would take {needed} bytes of memory, {allowed} are allowed for the frame")]
    MemoryBudget { needed: u64, allowed: u64 },
    #[error("API key {key} is unknown")]
    UnknownApi { key: i16 },
    #[error("version {version} of API key {key} is not supported")]
    UnsupportedVersion { key: i16, version: i16 },
    #[error("the message codec refused the body")]
    Codec,
}

/// Why a message of ours could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A field is set that the version does not have: a bug in whoever built the message.
    #[error("API key {key} version {version} cannot carry the message")]
    NotInVersion { key: i16, version: i16 },
    /// Clients refuse null records in a Fetch response: they must be empty instead.
    #[error("a partition of the Fetch response has null records")]
    NullRecords,
    #[error("the message of {size_bytes} bytes is larger than a frame can be")]
    TooLarge { size_bytes: usize },
}

/// A Kafka error code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    pub fn is_ok(self) -> bool {
        self == ErrorCode::NONE
    }

    /// The number on the wire.
    pub fn code(self) -> i16 {
        self.0
    }

    /// Kafka's name, or `UNKNOWN` for a number without one.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(code, _, _)| *code == self.0)
            .map_or("UNKNOWN", |(_, name, _)| name)
    }

    /// True if the protocol defines that a client may send the same request again.
    pub fn retriable(self) -> bool {
        NAMES
            .iter()
            .any(|&(code, _, retriable)| code == self.0 && retriable)
    }

    /// All codes with a name.
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        NAMES.iter().map(|(code, _, _)| ErrorCode(*code))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.0
    }
}

macro_rules! error_codes {
    (@retriable r) => { true };
    (@retriable) => { false };
    ($($code:literal $name:ident $($retriable:ident)?;)*) => {
        impl ErrorCode {
            $(pub const $name: ErrorCode = ErrorCode($code);)*
        }

        const NAMES: &[(i16, &str, bool)] =
            &[$(($code, stringify!($name), error_codes!(@retriable $($retriable)?)),)*];
    };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR;
    0 NONE;
    1 OFFSET_OUT_OF_RANGE;
    2 CORRUPT_MESSAGE r;
    3 UNKNOWN_TOPIC_OR_PARTITION r;
    4 INVALID_FETCH_SIZE;
    5 LEADER_NOT_AVAILABLE r;
    6 NOT_LEADER_OR_FOLLOWER r;
    7 REQUEST_TIMED_OUT r;
    8 BROKER_NOT_AVAILABLE;
    9 REPLICA_NOT_AVAILABLE r;
    10 MESSAGE_TOO_LARGE;
    11 STALE_CONTROLLER_EPOCH;
    12 OFFSET_METADATA_TOO_LARGE;
    13 NETWORK_EXCEPTION r;
    14 COORDINATOR_LOAD_IN_PROGRESS r;
    15 COORDINATOR_NOT_AVAILABLE r;
    16 NOT_COORDINATOR r;
    17 INVALID_TOPIC_EXCEPTION;
    18 RECORD_LIST_TOO_LARGE;
    19 NOT_ENOUGH_REPLICAS r;
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND r;
    21 INVALID_REQUIRED_ACKS;
    22 ILLEGAL_GENERATION;
    23 INCONSISTENT_GROUP_PROTOCOL;
    24 INVALID_GROUP_ID;
    25 UNKNOWN_MEMBER_ID;
    26 INVALID_SESSION_TIMEOUT;
    27 REBALANCE_IN_PROGRESS;
    28 INVALID_COMMIT_OFFSET_SIZE;
    29 TOPIC_AUTHORIZATION_FAILED;
    30 GROUP_AUTHORIZATION_FAILED;
    31 CLUSTER_AUTHORIZATION_FAILED;
    32 INVALID_TIMESTAMP;
    33 UNSUPPORTED_SASL_MECHANISM;
    34 ILLEGAL_SASL_STATE;
    35 UNSUPPORTED_VERSION;
    36 TOPIC_ALREADY_EXISTS;
    37 INVALID_PARTITIONS;
    38 INVALID_REPLICATION_FACTOR;
    39 INVALID_REPLICA_ASSIGNMENT;
    40 INVALID_CONFIG;
    41 NOT_CONTROLLER r;
    42 INVALID_REQUEST;
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT;
    44 POLICY_VIOLATION;
    45 OUT_OF_ORDER_SEQUENCE_NUMBER;
    46 DUPLICATE_SEQUENCE_NUMBER;
    47 INVALID_PRODUCER_EPOCH;
    48 INVALID_TXN_STATE;
    49 INVALID_PRODUCER_ID_MAPPING;
    50 INVALID_TRANSACTION_TIMEOUT;
    51 CONCURRENT_TRANSACTIONS r;
    52 TRANSACTION_COORDINATOR_FENCED;
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    54 SECURITY_DISABLED;
    55 OPERATION_NOT_ATTEMPTED;
    56 KAFKA_STORAGE_ERROR r;
    57 LOG_DIR_NOT_FOUND;
    58 SASL_AUTHENTICATION_FAILED;
    59 UNKNOWN_PRODUCER_ID;
    60 REASSIGNMENT_IN_PROGRESS;
    61 DELEGATION_TOKEN_AUTH_DISABLED;
    62 DELEGATION_TOKEN_NOT_FOUND;
    63 DELEGATION_TOKEN_OWNER_MISMATCH;
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED;
    66 DELEGATION_TOKEN_EXPIRED;
    67 INVALID_PRINCIPAL_TYPE;
    68 NON_EMPTY_GROUP;
    69 GROUP_ID_NOT_FOUND;
    70 FETCH_SESSION_ID_NOT_FOUND r;
    71 INVALID_FETCH_SESSION_EPOCH r;
    72 LISTENER_NOT_FOUND r;
    73 TOPIC_DELETION_DISABLED;
    74 FENCED_LEADER_EPOCH r;
    75 UNKNOWN_LEADER_EPOCH r;
    76 UNSUPPORTED_COMPRESSION_TYPE;
    77 STALE_BROKER_EPOCH;
    78 OFFSET_NOT_AVAILABLE r;
    79 MEMBER_ID_REQUIRED;
    80 PREFERRED_LEADER_NOT_AVAILABLE r;
    81 GROUP_MAX_SIZE_REACHED;
    82 FENCED_INSTANCE_ID;
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE r;
    84 ELECTION_NOT_NEEDED r;
    85 NO_REASSIGNMENT_IN_PROGRESS;
    86 GROUP_SUBSCRIBED_TO_TOPIC;
    87 INVALID_RECORD;
    88 UNSTABLE_OFFSET_COMMIT r;
    89 THROTTLING_QUOTA_EXCEEDED r;
    90 PRODUCER_FENCED;
    91 RESOURCE_NOT_FOUND;
    92 DUPLICATE_RESOURCE;
    93 UNACCEPTABLE_CREDENTIAL;
    94 INCONSISTENT_VOTER_SET;
    95 INVALID_UPDATE_VERSION;
    96 FEATURE_UPDATE_FAILED;
    97 PRINCIPAL_DESERIALIZATION_FAILURE;
    98 SNAPSHOT_NOT_FOUND;
    99 POSITION_OUT_OF_RANGE;
    100 UNKNOWN_TOPIC_ID r;
    101 DUPLICATE_BROKER_REGISTRATION;
    102 BROKER_ID_NOT_REGISTERED;
    103 INCONSISTENT_TOPIC_ID r;
    104 INCONSISTENT_CLUSTER_ID;
    105 TRANSACTIONAL_ID_NOT_FOUND;
    106 FETCH_SESSION_TOPIC_ID_ERROR r;
    107 INELIGIBLE_REPLICA;
    108 NEW_LEADER_ELECTED;
    109 OFFSET_MOVED_TO_TIERED_STORAGE;
    110 FENCED_MEMBER_EPOCH;
    111 UNRELEASED_INSTANCE_ID;
    112 UNSUPPORTED_ASSIGNOR;
    113 STALE_MEMBER_EPOCH;
    114 MISMATCHED_ENDPOINT_TYPE;
    115 UNSUPPORTED_ENDPOINT_TYPE;
    116 UNKNOWN_CONTROLLER_ID;
    117 UNKNOWN_SUBSCRIPTION_ID;
    118 TELEMETRY_TOO_LARGE;
    119 INVALID_REGISTRATION;
    120 TRANSACTION_ABORTABLE;
    121 INVALID_RECORD_STATE;
    122 SHARE_SESSION_NOT_FOUND r;
    123 INVALID_SHARE_SESSION_EPOCH r;
    124 FENCED_STATE_EPOCH;
    125 INVALID_VOTER_KEY;
    126 DUPLICATE_VOTER;
    127 VOTER_NOT_FOUND;
    128 INVALID_REGULAR_EXPRESSION;
    129 REBOOTSTRAP_REQUIRED;
    130 STREAMS_INVALID_TOPOLOGY;
    131 STREAMS_INVALID_TOPOLOGY_EPOCH;
    132 STREAMS_TOPOLOGY_FENCED;
    133 SHARE_SESSION_LIMIT_REACHED r;
    134 GROUP_DELETION_FAILED;
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED;
    136 CONTROLLER_ID_NOT_REGISTERED;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_from_minus_one_has_one_name() {
        let codes: Vec<i16> = ErrorCode::all().map(ErrorCode::code).collect();
        assert_eq!(codes, (-1..=136).collect::<Vec<_>>());
    }

    #[test]
    fn names_and_retriability_are_kafkas() {
        assert_eq!(
            ErrorCode::NOT_LEADER_OR_FOLLOWER.to_string(),
            "NOT_LEADER_OR_FOLLOWER(6)"
        );
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.retriable());
        assert!(!ErrorCode::MESSAGE_TOO_LARGE.retriable());
        assert_eq!(ErrorCode(999).name(), "UNKNOWN");
        assert!(!ErrorCode(999).retriable());
    }
}
