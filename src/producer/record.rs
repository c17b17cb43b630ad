//! What is handed to a producer.

use std::{fmt, time::SystemTime};

use crate::error::{Error, Result};

/// One record to be written: it borrows what it is made of, which is copied once, when it is sent.
///
/// Only the topic is needed. Keys, values and headers are anything that is bytes: text, vectors, arrays, slices,
/// [`Bytes`](crate::bytes::Bytes). What was set can be read from the fields of the same names.
///
/// ```
/// use std::time::SystemTime;
/// use klamm::Record;
///
/// let (customer, order) = (String::from("c-17"), vec![1_u8, 2, 3]);
/// let record = Record::to("orders").key(&customer).value(&order).header("trace", b"4f1c").timestamp(SystemTime::now());
/// assert_eq!(record.topic, Some("orders"));
/// assert_eq!(record.key, Some(customer.as_bytes()));
/// assert_eq!(record.value, Some(&order[..]));
/// ```
///
/// **A value that was never set is null**, which is not the same as an empty one: in a compacted topic such a *tombstone*
/// deletes what is there under its key.
///
/// ```
/// # use klamm::Record;
/// let deleted = Record::to("customers").key("c-17");
/// let empty = Record::to("customers").key("c-17").value("");
/// assert_eq!((deleted.value, empty.value), (None, Some(&b""[..])));
/// ```
///
/// To pass on what was read:
///
/// ```
/// # use klamm::{Message, Record};
/// fn copy_of(message: &Message) -> Record<'_> {
///     Record::to("copies")
///         .maybe_key(message.key())
///         .maybe_value(message.value())
///         .headers(message.headers())
///         .timestamp(message.timestamp())
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "a record does nothing until it is sent"]
pub struct Record<'a> {
    /// Where it goes; `None` only for a handle on one partition, which knows.
    pub topic: Option<&'a str>,
    /// The partition, if the program chooses it; else the producer's partitioner does.
    pub partition: Option<i32>,
    /// The key; `None` is no key, which is not the same as an empty one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone, which is not the same as an empty one.
    pub value: Option<&'a [u8]>,
    /// Names and values of its headers, in order, with duplicates.
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// When it came to be; `None` is the moment at which it is sent.
    pub timestamp: Option<SystemTime>,
}

impl<'a> Record<'a> {
    /// For this topic.
    #[inline]
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic: Some(topic),
            ..Self::default()
        }
    }

    /// Without a topic, for a handle on one partition.
    ///
    /// ```
    /// # use klamm::Record;
    /// assert_eq!(Record::new().value("v").topic, None);
    /// ```
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the partition, whatever the key and the producer's partitioner say. One that the topic does not have is an
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) error.
    #[inline]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Records with the same key go to the same partition, in order, as long as the topic has the same number of
    /// partitions; a compacted topic keeps the last one of each key.
    ///
    /// ```
    /// # use klamm::{Record, bytes::Bytes};
    /// let (string, vec, bytes, id) = (String::from("key"), b"key".to_vec(), Bytes::from_static(b"key"), 17_u32);
    /// for record in [
    ///     Record::to("t").key("key"),
    ///     Record::to("t").key(&string),
    ///     Record::to("t").key(&vec),
    ///     Record::to("t").key(&bytes),
    ///     Record::to("t").key(b"key"),
    ///     Record::to("t").key(&vec[..]),
    ///     Record::to("t").key(&[107, 101, 121]),
    ///     Record::to("t").maybe_key(Some(&vec)),
    /// ] {
    ///     assert_eq!(record.key, Some(&b"key"[..]));
    /// }
    /// assert_eq!(Record::to("t").key(&id.to_be_bytes()).key, Some(&[0, 0, 0, 17][..]));
    /// ```
    #[inline]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// The key, or none: for passing on what was read.
    #[inline]
    pub fn maybe_key(mut self, key: Option<&'a [u8]>) -> Self {
        self.key = key;
        self
    }

    /// What the record says. Without it the record is a tombstone, see [`Record`].
    ///
    /// ```
    /// # use klamm::{Record, bytes::Bytes};
    /// let (string, vec, bytes) = (String::from("value"), b"value".to_vec(), Bytes::from_static(b"value"));
    /// for record in [
    ///     Record::to("t").value("value"),
    ///     Record::to("t").value(&string),
    ///     Record::to("t").value(&format!("{}ue", "val")),
    ///     Record::to("t").value(&vec),
    ///     Record::to("t").value(&bytes),
    ///     Record::to("t").value(b"value"),
    ///     Record::to("t").value(&vec[..]),
    ///     Record::to("t").maybe_value(Some(b"value")),
    /// ] {
    ///     assert_eq!(record.value, Some(&b"value"[..]));
    /// }
    /// ```
    #[inline]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// The value, or a tombstone: for passing on what was read.
    #[inline]
    pub fn maybe_value(mut self, value: Option<&'a [u8]>) -> Self {
        self.value = value;
        self
    }

    /// Adds a header behind those that are there; a name may occur more than once. Kafka means names to be UTF-8.
    ///
    /// ```
    /// # use klamm::Record;
    /// let (name, hops) = (String::from("hop"), vec![2_u8]);
    /// let record = Record::to("t").header("hop", b"1").header(&name, &hops).header("from", "here");
    /// assert_eq!(record.headers.len(), 3);
    /// assert_eq!(record.headers[1], (&b"hop"[..], Some(&[2][..])));
    /// ```
    #[inline]
    pub fn header(mut self, name: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push((name.as_ref(), Some(value.as_ref())));
        self
    }

    /// Adds a header whose value is null, which is not the same as an empty one.
    ///
    /// ```
    /// # use klamm::Record;
    /// assert_eq!(Record::to("t").null_header("seen").headers, [(&b"seen"[..], None)]);
    /// ```
    #[inline]
    pub fn null_header(mut self, name: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push((name.as_ref(), None));
        self
    }

    /// Adds headers in their order: those of a [`Message`](crate::Message), of an [`OwnedMessage`](crate::OwnedMessage),
    /// or pairs of a name and a value.
    ///
    /// ```
    /// # use klamm::{Message, OwnedMessage, Record};
    /// # fn f<'a>(message: &'a Message, kept: &'a OwnedMessage) -> [Record<'a>; 2] { [
    /// Record::to("copies").headers(message.headers()).header("copied", "1"),
    /// Record::to("copies").headers(kept.headers()),
    /// # ] }
    /// let record = Record::to("t").headers([(&b"a"[..], Some(&b"1"[..])), (b"b", None)]);
    /// assert_eq!(record, Record::to("t").header("a", "1").null_header("b"));
    /// ```
    pub fn headers<H: Into<(&'a [u8], Option<&'a [u8]>)>>(mut self, headers: impl IntoIterator<Item = H>) -> Self {
        self.headers.extend(headers.into_iter().map(Into::into));
        self
    }

    /// When it came to be; without it, the moment at which it is sent. Kafka keeps milliseconds, and knows no time before
    /// 1970: sending such a record is a [`Config`](crate::ErrorKind::Config) error. A topic with
    /// `message.timestamp.type=LogAppendTime` puts the broker's time in its place.
    #[inline]
    pub fn timestamp(mut self, timestamp: impl Into<Option<SystemTime>>) -> Self {
        self.timestamp = timestamp.into();
        self
    }

    /// As the wire has it, if the program gave one.
    pub(super) fn timestamp_millis(&self) -> Option<Result<i64>> {
        self.timestamp.map(millis)
    }
}

fn millis(time: SystemTime) -> Result<i64> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| Error::config("timestamp: Kafka has no times before 1970"))?;
    i64::try_from(since.as_millis()).map_err(|_| Error::config("timestamp: Kafka has no times that far in the future"))
}

/// Sizes, and not what is in it: that may be large, and nobody else's business.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key_bytes", &self.key.map(<[u8]>::len))
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .field("headers", &self.headers.len())
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_not_set_is_null() {
        let record = Record::to("t");
        assert_eq!((record.partition, record.key, record.value), (None, None, None));
        assert!(record.headers.is_empty() && record.timestamp_millis().is_none());
        assert_eq!(Record::new().topic, None);
    }

    #[test]
    fn empty_is_not_null() {
        let record = Record::to("t").key("").value(&[]).header("", "");
        assert_eq!((record.key, record.value), (Some(&[][..]), Some(&[][..])));
        assert_eq!(record.headers, [(&[][..], Some(&[][..]))]);
        assert_ne!(record, Record::to("t").null_header(""));
    }

    #[test]
    fn headers_keep_their_order_and_duplicates() {
        let more = [(&b"c"[..], Some(&b"3"[..])), (b"a", None)];
        let record = Record::to("t")
            .header("b", "2")
            .header("a", "1")
            .headers(more)
            .null_header("b");
        let names: Vec<&[u8]> = record.headers.iter().map(|header| header.0).collect();
        assert_eq!(names, [b"b", b"a", b"c", b"a", b"b"]);
        assert_eq!(record.headers[1].1, Some(&b"1"[..]));
        assert_eq!(record.headers[3].1, None);
    }

    #[test]
    fn a_record_without_headers_allocates_nothing() {
        assert_eq!(Record::to("t").key("k").value("v").clone().headers.capacity(), 0);
    }

    #[test]
    fn times_are_whole_milliseconds_since_1970() {
        let at = |since| {
            Record::to("t")
                .timestamp(SystemTime::UNIX_EPOCH + since)
                .timestamp_millis()
        };
        assert_eq!(at(Duration::ZERO).unwrap().unwrap(), 0);
        assert_eq!(
            at(Duration::from_micros(1_700_000_000_123_999)).unwrap().unwrap(),
            1_700_000_000_123
        );
        assert!(Record::to("t").timestamp(None).timestamp_millis().is_none());
    }

    #[test]
    fn times_that_kafka_cannot_express_are_refused() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1_000);
        let beyond =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(i64::MAX as u64) + Duration::from_millis(1));
        for time in [Some(before), beyond].into_iter().flatten() {
            let error = Record::to("t").timestamp(time).timestamp_millis().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("timestamp"), "{error}");
        }
    }

    #[test]
    fn debug_shows_sizes_and_no_payload() {
        let record = Record::to("orders")
            .key("secret")
            .value("confidential")
            .header("token", "hidden");
        let text = format!("{record:?}");
        for payload in ["secret", "confidential", "token", "hidden"] {
            assert!(!text.contains(payload), "{text}");
        }
        assert!(text.contains("orders") && text.contains("key_bytes: Some(6)"), "{text}");
    }
}
