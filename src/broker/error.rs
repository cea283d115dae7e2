//! What can go wrong with the broker, in the few kinds that callers act on.
//!
//! The client's hundreds of codes are folded here and nowhere else; messages keep the client's own
//! words for people.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// A request to the broker, or setting up a client, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The client refused its settings.
    #[error("the Kafka client cannot be set up: {0}")]
    Settings(String),
    /// No broker answered in time, or none can be reached.
    #[error("the Kafka brokers cannot be reached: {0}")]
    Unreachable(String),
    /// The brokers refuse these credentials, or the credentials lack a permission.
    #[error("Kafka refuses: {0}")]
    Denied(String),
    /// The topic or partition does not exist.
    #[error("no such topic or partition: {0}")]
    UnknownTopic(String),
    /// The member lost its partitions: the work belongs to another member now.
    #[error("the group has moved on: {0}")]
    Stale(String),
    /// Sends were still unacknowledged at the limit.
    #[error("{left} sends were still unacknowledged after {limit:?}")]
    Unfinished {
        /// How many.
        left: usize,
        /// How long was waited.
        limit: Duration,
    },
    /// The client instance is beyond repair: open a new one.
    #[error("the Kafka client cannot go on: {0}")]
    Fatal(String),
    /// A newer producer of the same transactional id has taken over.
    #[error("{0}")]
    Fenced(String),
    /// Anything else.
    #[error("{message}")]
    Other {
        /// Whether the same request may succeed later.
        retriable: bool,
        /// The client's words.
        message: String,
    },
}

impl BrokerError {
    /// Whether the same request may succeed later without anybody's help.
    pub fn retriable(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unfinished { .. } => true,
            Self::Other { retriable, .. } => *retriable,
            Self::Settings(_)
            | Self::Denied(_)
            | Self::UnknownTopic(_)
            | Self::Stale(_)
            | Self::Fatal(_)
            | Self::Fenced(_) => false,
        }
    }

    pub(super) fn from_client(doing: &str, error: &KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => Self::Settings(error.to_string()),
            _ => match error.rdkafka_error_code() {
                Some(code) => Self::from_code(doing, code),
                None => Self::Other { retriable: false, message: format!("{doing}: {error}") },
            },
        }
    }

    pub(super) fn from_code(doing: &str, code: Code) -> Self {
        let message = format!("{doing}: {code}");
        match code {
            code if is_unreachable(code) => Self::Unreachable(message),
            code if is_denied(code) => Self::Denied(message),
            code if is_unknown_topic(code) => Self::UnknownTopic(message),
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::FencedInstanceId
            | Code::AssignmentLost => Self::Stale(message),
            Code::Fatal => Self::Fatal(message),
            code => Self::Other { retriable: is_retriable(code), message },
        }
    }
}

/// Polling brought an error instead of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// The offset to read is gone from the broker or was never there. The partition stands still
    /// until it is sought or assigned again; [`super::Consumer::out_of_range`] says which one it is.
    #[error("the offset to read is not on the broker: {0}")]
    OffsetOutOfRange(String),
    /// A subscribed topic does not exist (any more); reading goes on when it does.
    #[error("no such topic: {0}")]
    UnknownTopic(String),
    /// Reading the topic or joining the group is not permitted.
    #[error("Kafka refuses: {0}")]
    Denied(String),
    /// Nobody polled for longer than the group allows; the partitions are lost.
    #[error("nobody polled for too long: {0}")]
    PollExceeded(String),
    /// Brokers cannot be reached; the client goes on trying.
    #[error("the Kafka brokers cannot be reached: {0}")]
    Unreachable(String),
    /// The consumer is beyond repair (its static member id is in use elsewhere): open a new one.
    #[error("the consumer cannot go on: {0}")]
    Fatal(String),
    /// Anything else; polling goes on.
    #[error("{0}")]
    Other(String),
}

impl ConsumeError {
    pub(super) fn from_client(error: &KafkaError, reason: Option<String>) -> Self {
        let message = match reason {
            Some(reason) => reason,
            None => error.to_string(),
        };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Self::Fatal(message);
        }
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Self::OffsetOutOfRange(message),
            Some(Code::PollExceeded) => Self::PollExceeded(message),
            Some(Code::Fatal | Code::FencedInstanceId) => Self::Fatal(message),
            Some(code) if is_unknown_topic(code) => Self::UnknownTopic(message),
            Some(code) if is_denied(code) => Self::Denied(message),
            Some(code) if is_unreachable(code) => Self::Unreachable(message),
            _ => Self::Other(message),
        }
    }
}

/// A record was not sent, or was sent and not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The client's buffer is full: wait for deliveries, then send again.
    #[error("the send buffer is full")]
    Full,
    /// The record is larger than the topic or the client takes.
    #[error("the record is too large for the topic")]
    TooLarge,
    /// The topic or partition does not exist.
    #[error("no such topic or partition")]
    UnknownTopic,
    /// Writing to the topic is not permitted.
    #[error("writing to the topic is not permitted")]
    Denied,
    /// Given up by closing the producer; whether the broker has it is not known.
    #[error("given up while closing")]
    Purged,
    /// The producer is beyond repair: whatever is unacknowledged must be sent by a new one.
    #[error("the producer cannot go on: {0}")]
    Fatal(String),
    /// Anything else.
    #[error("{message}")]
    Other {
        /// Whether sending again may succeed.
        retriable: bool,
        /// The client's words.
        message: String,
    },
}

impl SendError {
    pub(super) fn from_client(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => Self::Full,
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => Self::TooLarge,
            Some(Code::PurgeQueue | Code::PurgeInflight) => Self::Purged,
            Some(Code::Fatal) => Self::Fatal(error.to_string()),
            Some(code) if is_unknown_topic(code) => Self::UnknownTopic,
            Some(code) if is_denied(code) => Self::Denied,
            Some(code) => Self::Other { retriable: is_retriable(code), message: code.to_string() },
            None => Self::Other { retriable: false, message: error.to_string() },
        }
    }
}

fn is_unreachable(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::WaitingForCoordinator
            | Code::CoordinatorNotAvailable
            | Code::BrokerNotAvailable
            | Code::NetworkException
    )
}

fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::PolicyViolation
    )
}

fn is_unknown_topic(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId
    )
}

fn is_retriable(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidMessage
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
            | Code::NotCoordinator
            | Code::CoordinatorLoadInProgress
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotController
            | Code::KafkaStorageError
            | Code::FetchSessionIdNotFound
            | Code::InvalidFetchSessionEpoch
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::UnstableOffsetCommit
            | Code::ThrottlingQuotaExceeded
            | Code::Retry
            | Code::QueueFull
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_retriable() {
        assert!(BrokerError::from_code("", Code::AllBrokersDown).retriable());
        assert!(BrokerError::from_code("", Code::NotCoordinator).retriable());
        assert!(!BrokerError::from_code("", Code::TopicAuthorizationFailed).retriable());
        assert!(!BrokerError::from_code("", Code::IllegalGeneration).retriable());
        assert!(!BrokerError::from_code("", Code::InvalidTopic).retriable());
    }

    #[test]
    fn a_lost_offset_is_told_from_a_lost_broker() {
        let error = |code| ConsumeError::from_client(&KafkaError::MessageConsumption(code), None);
        assert!(matches!(error(Code::AutoOffsetReset), ConsumeError::OffsetOutOfRange(_)));
        assert!(matches!(error(Code::AllBrokersDown), ConsumeError::Unreachable(_)));
        assert!(matches!(error(Code::PollExceeded), ConsumeError::PollExceeded(_)));
    }
}
