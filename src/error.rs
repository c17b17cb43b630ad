//! What can go wrong, grouped by who must act.

use std::{fmt, io, sync::Arc};

/// The result of everything in klamm that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who must act, and roughly on what.
///
/// ```
/// use klamm::{Client, ErrorKind};
/// let error = Client::connect("").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option is invalid, or two of them exclude each other: change the program.
    Config,
    /// No broker, or not the one that is needed, could be reached.
    Unreachable,
    /// A connection broke in the middle.
    Io,
    /// A deadline passed; the message names what was waited for.
    TimedOut,
    /// The broker does not accept these credentials, or there are none to be had. Of a client that was believed before it is
    /// retriable at first: passwords change, and not all brokers know at once. When one broker has refused three tries in a
    /// row, at least a second apart, it is not retriable any more, and ends what needs that broker: a stream, a group's
    /// membership, a record. However rarely a client tries, that makes a row, unless some broker has believed it in between
    /// and more than a minute has passed. Where there are no credentials to be had, such a client asks for them as long as it
    /// takes. That an identity provider is out of reach (feature `oidc`) is retriable always.
    Authentication,
    /// The broker knows who this is, and does not allow it.
    Authorization,
    /// This broker and klamm have no common version of what is needed.
    Unsupported,
    /// The topic or partition does not exist.
    UnknownTopic,
    /// The position lies outside of the partition's log, and `out_of_range` says to fail.
    OutOfRange,
    /// Records that were read have been removed from the log by a new leader (KIP-320).
    Truncated,
    /// Records are damaged: a checksum, length or count does not hold.
    Corrupt,
    /// A record batch inflates beyond `decoded_batch_limit`, or an answer is larger than a frame may be. Of a producer: a
    /// record that alone is larger than `buffer_bytes`, or than its topic takes (`max.message.bytes`; `message.max.bytes`
    /// where the topic says nothing). It was not written; those beside it are.
    TooLarge,
    /// The broker refused what is in a record, which was not written: one without a key for a compacted topic, a timestamp
    /// further from now than the topic allows (`message.timestamp.before.max.ms`, `message.timestamp.after.max.ms`).
    InvalidRecord,
    /// A record was sent, and whether the broker has it could not be found out in time. With acks all it is in the log once
    /// or not at all, with [`Acks::Leader`](crate::Acks::Leader) it may be there twice; and it may come there later, behind
    /// records that were sent after it. Not retriable, since sending it again may write it twice.
    OutcomeUnknown,
    /// `buffer_bytes` of records wait to be sent, and the call does not wait for room. Nothing was taken over; the same call
    /// may succeed in a moment.
    BufferFull,
    /// The program took the record out of the producer's buffer before it was sent: it is not in the log.
    Purged,
    /// What the other side sent is not Kafka's protocol, or breaks its rules.
    Protocol,
    /// The broker refused for a reason that has no kind of its own; see [`Error::code`].
    Refused,
    /// The group has another member of this name, or does not know this one any more: somebody else goes on.
    Fenced,
    /// The call would wait for the very thread that makes it, as in a delivery callback, or in a logger that klamm calls.
    WouldDeadlock,
    /// The client, stream, producer or connection was closed by this program.
    Closed,
    /// A thread of klamm panicked: a bug in klamm.
    Internal,
}

/// What went wrong, where, and whether trying again can help.
///
/// `Display` is one sentence: what happened, and where. [`source`](std::error::Error::source) says what caused it.
/// It is one pointer wide and cheap to clone, since one failure may concern many records.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Debug, Clone, Default)]
struct Context {
    api: Option<&'static str>,
    broker: Option<String>,
    topic: Option<Arc<str>>,
    partition: Option<i32>,
    group: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    code: Option<i16>,
    retriable: bool,
    context: Context,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Who must act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Kafka's error code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<i16> {
        self.0.code
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }

    /// The Kafka API in which it arose, by its name in the protocol.
    #[must_use]
    pub fn api(&self) -> Option<&'static str> {
        self.0.context.api
    }

    /// The broker's address, as it was dialled.
    #[must_use]
    pub fn broker(&self) -> Option<&str> {
        self.0.context.broker.as_deref()
    }

    /// The topic concerned.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.0.context.topic.as_deref()
    }

    /// The partition concerned.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        self.0.context.partition
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retriable = matches!(
            kind,
            ErrorKind::Unreachable | ErrorKind::Io | ErrorKind::TimedOut | ErrorKind::BufferFull
        );
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            code: None,
            retriable,
            context: Context::default(),
            source: None,
        }))
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("the {what} was closed"))
    }

    /// An error of this kind that came through the standard library's is what it was.
    pub(crate) fn io(doing: &str, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(error) => return error,
            Err(source) => source,
        };
        Self::new(ErrorKind::Io, format!("{doing} failed")).caused_by(source)
    }

    /// What a broker answered, from Kafka's table of error codes.
    pub(crate) fn refused(code: i16) -> Self {
        use kafka_protocol::ResponseError as E;
        let known = E::try_from_code(code);
        let kind = match known {
            Some(E::UnknownTopicOrPartition | E::UnknownTopicId | E::InvalidTopicException) => ErrorKind::UnknownTopic,
            Some(E::OffsetOutOfRange) => ErrorKind::OutOfRange,
            Some(
                E::TopicAuthorizationFailed
                | E::GroupAuthorizationFailed
                | E::ClusterAuthorizationFailed
                | E::TransactionalIdAuthorizationFailed
                | E::DelegationTokenAuthorizationFailed,
            ) => ErrorKind::Authorization,
            Some(E::SaslAuthenticationFailed | E::UnsupportedSaslMechanism | E::IllegalSaslState) => {
                ErrorKind::Authentication
            }
            Some(E::UnsupportedVersion | E::UnsupportedForMessageFormat) => ErrorKind::Unsupported,
            Some(E::FencedInstanceId | E::UnreleasedInstanceId | E::FencedMemberEpoch) => ErrorKind::Fenced,
            Some(E::CorruptMessage) => ErrorKind::Corrupt,
            Some(E::MessageTooLarge | E::RecordListTooLarge) => ErrorKind::TooLarge,
            Some(E::InvalidTimestamp | E::InvalidRecord) => ErrorKind::InvalidRecord,
            Some(E::RequestTimedOut) => ErrorKind::TimedOut,
            _ => ErrorKind::Refused,
        };
        let message = match known {
            Some(error) => format!("the broker refused: {error} (code {code})"),
            None => format!("the broker refused with error code {code}, which this version of klamm does not know"),
        };
        let retriable = known.is_some_and(|error| error.is_retriable());
        Self::new(kind, message).edit(|inner| {
            inner.code = Some(code);
            inner.retriable = retriable;
        })
    }

    /// The broker does not believe who we are, and will not: credentials that it took before it may take again.
    pub(crate) fn is_refusal(&self) -> bool {
        self.kind() == ErrorKind::Authentication && !self.is_retriable()
    }

    pub(crate) fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.edit(|inner| inner.source = Some(Arc::new(source)))
    }

    pub(crate) fn retriable(self, retriable: bool) -> Self {
        self.edit(|inner| inner.retriable = retriable)
    }

    /// Adds to what the sentence says.
    pub(crate) fn explained(self, more: &str) -> Self {
        self.edit(|inner| {
            inner.message.push_str(": ");
            inner.message.push_str(more.trim_end_matches('.'));
        })
    }

    pub(crate) fn in_api(self, api: &'static str) -> Self {
        self.edit(|inner| {
            inner.context.api.get_or_insert(api);
        })
    }

    pub(crate) fn at_broker(self, broker: &str) -> Self {
        self.edit(|inner| {
            inner.context.broker.get_or_insert_with(|| broker.to_owned());
        })
    }

    pub(crate) fn for_topic(self, topic: &str) -> Self {
        self.edit(|inner| {
            inner.context.topic.get_or_insert_with(|| Arc::from(topic));
        })
    }

    pub(crate) fn for_group(self, group: &Arc<str>) -> Self {
        self.edit(|inner| {
            inner.context.group.get_or_insert_with(|| Arc::clone(group));
        })
    }

    pub(crate) fn for_partition(self, topic: &str, partition: i32) -> Self {
        self.for_topic(topic).edit(|inner| {
            inner.context.partition.get_or_insert(partition);
        })
    }

    /// For the end of a wait: tells what went wrong last, with its code, and where that was.
    pub(crate) fn after_last(self, last: &Self) -> Self {
        let Context { api, broker, .. } = last.0.context.clone();
        self.explained(&format!("the last error was: {}", last.reason()))
            .edit(|inner| {
                inner.code = last.0.code;
                // Nothing mends what was closed.
                inner.retriable = last.0.retriable && inner.kind != ErrorKind::Closed;
                inner.context.api = inner.context.api.or(api);
                inner.context.broker = inner.context.broker.take().or(broker);
            })
    }

    /// What happened, without where.
    pub(crate) fn reason(&self) -> String {
        let mut reason = self.0.message.clone();
        if let Some(source) = self.os_error() {
            reason.push_str(": ");
            reason.push_str(&plain(source));
        }
        reason
    }

    fn os_error(&self) -> Option<&io::Error> {
        self.0.source.as_deref().and_then(|source| source.downcast_ref())
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An operating system's word is what the user acts on: "connection refused" belongs into the sentence.
        f.write_str(&self.reason())?;
        let context = &self.0.context;
        match (&context.topic, context.partition) {
            (Some(topic), Some(partition)) => write!(f, ", for {topic}-{partition}")?,
            (Some(topic), None) => write!(f, ", for topic {topic}")?,
            _ => {}
        }
        if let Some(group) = &context.group {
            write!(f, ", for group {group}")?;
        }
        if let Some(api) = context.api {
            write!(f, ", in {api}")?;
        }
        if let Some(broker) = &context.broker {
            write!(f, ", at broker {broker}")?;
        }
        Ok(())
    }
}

/// An I/O error without the operating system's number behind it.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    let mut text = text[..end].to_owned();
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_lowercase();
    }
    text
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source: &(dyn std::error::Error + Send + Sync) = &**self.0.source.as_ref()?;
        // Its text is already part of ours.
        if source.is::<io::Error>() { None } else { Some(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide_and_can_be_shared() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        shared::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn a_sentence_names_what_where_and_the_cause_once() {
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = Error::io("dialling", cause)
            .at_broker("127.0.0.1:9092")
            .for_partition("orders", 3)
            .in_api("Fetch");
        assert_eq!(
            error.to_string(),
            "dialling failed: connection refused, for orders-3, in Fetch, at broker 127.0.0.1:9092"
        );
        assert!(std::error::Error::source(&error).is_none());
        assert!(error.is_retriable());
    }

    #[test]
    fn a_broker_s_code_decides_kind_and_retriability() {
        let gone = Error::refused(3);
        assert_eq!(
            (gone.kind(), gone.is_retriable(), gone.code()),
            (ErrorKind::UnknownTopic, true, Some(3))
        );
        let denied = Error::refused(29);
        assert_eq!(
            (denied.kind(), denied.is_retriable()),
            (ErrorKind::Authorization, false)
        );
        for (code, kind) in [
            (10, ErrorKind::TooLarge),
            (18, ErrorKind::TooLarge),
            (32, ErrorKind::InvalidRecord),
            (87, ErrorKind::InvalidRecord),
        ] {
            let record = Error::refused(code);
            assert_eq!((record.kind(), record.is_retriable()), (kind, false));
        }
        let new = Error::refused(9_999);
        assert_eq!((new.kind(), new.code()), (ErrorKind::Refused, Some(9_999)));
    }

    #[test]
    fn only_a_call_that_wrote_nothing_may_be_made_again() {
        let is_retriable = |kind| Error::new(kind, "no").is_retriable();
        assert!(is_retriable(ErrorKind::BufferFull));
        assert!(!is_retriable(ErrorKind::OutcomeUnknown));
        assert!(!is_retriable(ErrorKind::Purged));
    }

    #[test]
    fn context_that_is_already_there_is_kept() {
        let error = Error::protocol("odd")
            .for_partition("inner", 1)
            .for_partition("outer", 2);
        assert_eq!((error.topic(), error.partition()), (Some("inner"), Some(1)));
    }
}
