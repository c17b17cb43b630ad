//! Message and Batch: views into one decoded buffer.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::ownership::Ownership;
use crate::{
    error::{Error, Result},
    wire::batch::{Cursor, Headers, RecordView, Span, TimestampType},
};

/// What all who hold something of one partition share. Written under the buffer's lock, read without.
pub(crate) struct Cell {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Rises when what was asked for is no longer wanted: a seek, a reset, a truncation, a refetch.
    pub fetch_epoch: AtomicU64,
    /// Rises when acks of earlier messages must not count any more: a seek, a loss.
    pub ack_epoch: AtomicU64,
    /// Asks the iterator that has this partition to give it back at its next message.
    pub recall: AtomicBool,
    /// When a group has given it to us.
    pub ownership: Option<Ownership>,
}

impl Cell {
    pub(crate) fn new(topic: Arc<str>, partition: i32, ownership: Option<Ownership>) -> Self {
        Self {
            topic,
            partition,
            fetch_epoch: AtomicU64::new(0),
            ack_epoch: AtomicU64::new(0),
            recall: AtomicBool::new(false),
            ownership,
        }
    }

    fn is_current(&self, ack_epoch: u64) -> bool {
        self.ack_epoch.load(Ordering::Acquire) == ack_epoch
    }

    /// These messages are done, if they are still ours.
    fn ack(&self, data: &ChunkData, from: i64, to: i64) -> bool {
        let Some(ownership) = &self.ownership else {
            let current = self.is_current(data.ack_epoch);
            if current {
                data.acked.fetch_max(to, Ordering::Relaxed);
            }
            return current;
        };
        let tracked = ownership.lock();
        // Looked at under the lock: whoever ends an epoch takes it, and counts what was acked before.
        if !self.is_current(data.ack_epoch) {
            return false;
        }
        ownership.ack(tracked, from, to);
        true
    }

    /// Attaches topic and partition to an error.
    pub(crate) fn blame(&self, error: Error) -> Error {
        error.for_partition(&self.topic, self.partition)
    }
}

/// Decoded record batches of one partition, which lie in one buffer.
pub(crate) struct ChunkData {
    pub cell: Arc<Cell>,
    pub ack_epoch: u64,
    pub data: Bytes,
    /// In order of their offsets; no empty ones.
    pub spans: Vec<Span>,
    /// Up to where this partition could be read when the chunk was fetched.
    pub readable_end: i64,
    /// Behind the message that was given out last: beside the count of references, which changes with it anyway.
    pub at: AtomicI64,
    /// Behind the highest message of it that the program has acked itself; of a reader.
    pub acked: AtomicI64,
    /// The first offset that it covers.
    pub begin: i64,
    /// Behind the highest watched message that the program has let go of, and that a panic has dropped; of a group.
    pub let_go: AtomicI64,
    pub spoiled: AtomicI64,
}

/// What travels from a fetcher to an iterator, and back when the iterator is dropped.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub data: Arc<ChunkData>,
    /// Records below it were seen before.
    pub from: i64,
    /// Records from here on are not to be seen.
    pub until: i64,
    /// The position behind the chunk.
    pub next_offset: i64,
    pub bytes: usize,
    pub records: usize,
}

impl Chunk {
    /// Leaves out everything from this offset on.
    pub(crate) fn cut(&mut self, at: i64) {
        self.until = self.until.min(at);
        self.next_offset = self.next_offset.min(at);
    }
}

/// Goes over the records of a chunk.
#[derive(Clone)]
pub(crate) struct Walker {
    pub chunk: Chunk,
    span: usize,
    cursor: Option<Cursor>,
    /// Its messages tell when they are dropped.
    pub watched: bool,
}

impl Walker {
    pub(crate) fn new(chunk: Chunk) -> Self {
        // What lies before `from` as a whole need not be decoded.
        let span = chunk.data.spans.partition_point(|span| span.next_offset <= chunk.from);
        let cursor = chunk.data.spans.get(span).map(Cursor::new);
        Self {
            chunk,
            span,
            cursor,
            watched: false,
        }
    }

    /// Nothing is left: somebody else goes over the rest.
    pub(crate) fn exhaust(&mut self) {
        self.span = self.chunk.data.spans.len();
        self.cursor = None;
    }

    /// The next record, if it is there for the taking. None says nothing but that [`next`](Self::next) has to look.
    // Always: a record that is handed from call to call through memory costs more than to read it.
    #[inline(always)]
    pub(crate) fn next_common(&mut self) -> Option<RecordView> {
        let span = self.chunk.data.spans.get(self.span)?;
        let record = self.cursor.as_mut()?.next_common(&self.chunk.data.data, span)?;
        if record.offset < self.chunk.from {
            return None; // `next` goes on behind it
        }
        if record.offset >= self.chunk.until {
            self.cursor = None;
            return None;
        }
        Some(record)
    }

    pub(crate) fn next(&mut self) -> Option<Result<Message>> {
        loop {
            let span = self.chunk.data.spans.get(self.span)?;
            match self.cursor.as_mut()?.next(&self.chunk.data.data, span) {
                Some(Ok(record)) if record.offset < self.chunk.from => {}
                Some(Ok(record)) if record.offset >= self.chunk.until => {
                    self.cursor = None;
                    return None;
                }
                Some(Ok(record)) => return Some(Ok(self.message(record))),
                Some(Err(error)) => {
                    self.cursor = None;
                    return Some(Err(self.chunk.data.cell.blame(error.into_error())));
                }
                None => {
                    self.span += 1;
                    self.cursor = self.chunk.data.spans.get(self.span).map(Cursor::new);
                }
            }
        }
    }

    #[inline(always)]
    pub(crate) fn message(&self, record: RecordView) -> Message {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a chunk of 4 billion batches is beyond its bytes"
        )]
        Message {
            chunk: Arc::clone(&self.chunk.data),
            record,
            span: self.span as u32 | if self.watched { WATCHED } else { 0 },
        }
    }
}

/// In a message's number of its span: it tells when it is dropped.
const WATCHED: u32 = 1 << 31;

/// One record as it was read: a view into its batch.
///
/// A message keeps its batch in memory (up to some megabytes). To keep a few messages for long, [`detach`](Self::detach)
/// them; to keep one value, take [`value_bytes`](Self::value_bytes).
///
/// ```no_run
/// # fn main() -> klamm::Result<()> {
/// let client = klamm::Client::connect("localhost:9092")?;
/// for message in client.reader().topics(["orders"]).open()? {
///     let message = message?;
///     println!("{}: {:?}", message.offset(), message.value());
/// }
/// # Ok(()) }
/// ```
pub struct Message {
    chunk: Arc<ChunkData>,
    record: RecordView,
    span: u32,
}

impl Message {
    /// The topic it was read from.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.chunk.cell.topic
    }

    /// The partition it was read from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.chunk.cell.partition
    }

    /// Its place in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// When it was written, as far as [`timestamp_type`](Self::timestamp_type) says; milliseconds are all Kafka keeps.
    ///
    /// None when the record has none, or one that the system's clock cannot express.
    #[must_use]
    pub fn timestamp(&self) -> Option<SystemTime> {
        system_time(self.record.timestamp)
    }

    /// Whether the timestamp is the producer's or the broker's. Kafka: `message.timestamp.type`.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.span().timestamp_type
    }

    /// Its key; None is no key, which is not the same as an empty one.
    #[must_use]
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key.of(&self.chunk.data)
    }

    /// Its value; None is a tombstone, which is not the same as an empty one.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.record.value.of(&self.chunk.data)
    }

    /// Its headers, in order, with duplicates.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.record.headers.iter(&self.chunk.data)
    }

    /// The leader's epoch when it was written; None for old formats.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<i32> {
        Some(self.span().leader_epoch).filter(|&epoch| epoch >= 0)
    }

    /// The value without a copy. It keeps the whole batch in memory as long as it lives.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.record.value.range().map(|range| self.chunk.data.slice(range))
    }

    /// Says that the program is done with this message: a group will commit it. False when that does not count any more,
    /// since the partition went to another member of the group, or the stream was told to seek: the message comes again
    /// there.
    ///
    /// Acks may come in any order and from any thread. What is committed, within
    /// [`commit_interval`](crate::GroupBuilder::commit_interval), is the lowest offset below which everything is done. Acking
    /// twice does nothing. It is cheap: nothing is sent.
    ///
    /// In a stream without a group nothing is committed; an acked message is not given again when an iterator is dropped
    /// before it asked for the next one.
    ///
    /// ```no_run
    /// # use klamm::{AckMode, Client};
    /// # fn bill(message: &klamm::Message) -> Result<(), String> { Ok(()) }
    /// # fn main() -> klamm::Result<()> {
    /// # let client = Client::connect("localhost:9092")?;
    /// for message in client.group("billing").topics(["orders"]).ack_mode(AckMode::Explicit).join()? {
    ///     let message = message?;
    ///     match bill(&message) {
    ///         Ok(()) if message.ack() => {}
    ///         Ok(()) => println!("offset {} comes again elsewhere, although it is done", message.offset()),
    ///         Err(why) => return Ok(println!("ending, so that it comes again: {why}")),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    #[allow(
        clippy::must_use_candidate,
        reason = "whoever does not commit elsewhere need not care"
    )]
    pub fn ack(&self) -> bool {
        let offset = self.record.offset;
        self.chunk.cell.ack(&self.chunk, offset, offset.saturating_add(1))
    }

    /// Gives up the message's place in the prefetch window, and commits nothing: more messages may come while this one is
    /// still to be acked.
    ///
    /// Without a group the window moves on by itself as soon as an iterator has gone through a batch, so this does nothing.
    pub fn release(&self) {
        let cell = &self.chunk.cell;
        let Some(ownership) = &cell.ownership else {
            return;
        };
        let mut tracked = ownership.lock();
        if cell.is_current(self.chunk.ack_epoch) {
            tracked.acks.release(self.record.offset);
            ownership.finished(tracked);
        }
    }

    /// Whether an ack of this message would still count. In a group also false when the group has not been heard of for a
    /// session timeout, and others may have gone on.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "whether a partition is still ours is a matter of now"
    )]
    pub fn is_current(&self) -> bool {
        let cell = &self.chunk.cell;
        let is_valid = |ownership: &Ownership| ownership.is_valid(Instant::now());
        cell.is_current(self.chunk.ack_epoch) && cell.ownership.as_ref().is_none_or(is_valid)
    }

    /// A copy in a small allocation of its own, which keeps nothing else in memory.
    #[must_use]
    pub fn detach(&self) -> OwnedMessage {
        OwnedMessage {
            topic: Arc::clone(&self.chunk.cell.topic),
            partition: self.partition(),
            offset: self.record.offset,
            timestamp: self.record.timestamp,
            timestamp_type: self.timestamp_type(),
            leader_epoch: self.leader_epoch(),
            key: self.key().map(Box::from),
            value: self.value().map(Box::from),
            headers: self
                .headers()
                .map(|header| (header.key_bytes().into(), header.value().map(Box::from)))
                .collect(),
        }
    }

    fn span(&self) -> &Span {
        &self.chunk.spans[(self.span & !WATCHED) as usize]
    }

    /// The rare drops: somebody watches, or the thread panics.
    #[cold]
    #[inline(never)]
    fn dropped(&self) {
        let Some(ownership) = &self.chunk.cell.ownership else {
            return;
        };
        let behind = self.record.offset.saturating_add(1);
        if std::thread::panicking() {
            // Whoever held it has not finished with it.
            self.chunk.spoiled.fetch_max(behind, Ordering::Relaxed);
            ownership.spoil(&self.chunk);
        } else {
            self.chunk.let_go.fetch_max(behind, Ordering::Relaxed);
        }
        if ownership.is_draining() {
            ownership.let_go();
        }
    }
}

impl Drop for Message {
    #[inline]
    fn drop(&mut self) {
        if self.span & WATCHED != 0 || std::thread::panicking() {
            self.dropped();
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("key_bytes", &self.key().map(<[u8]>::len))
            .field("value_bytes", &self.value().map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

type OwnedHeader = (Box<[u8]>, Option<Box<[u8]>>);

/// A message that stands for itself: [`Message::detach`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedMessage {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
    leader_epoch: Option<i32>,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Box<[OwnedHeader]>,
}

impl OwnedMessage {
    /// The topic it was read from.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition it was read from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Its place in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// As [`Message::timestamp`].
    #[must_use]
    pub fn timestamp(&self) -> Option<SystemTime> {
        system_time(self.timestamp)
    }

    /// As [`Message::timestamp_type`].
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// As [`Message::leader_epoch`].
    #[must_use]
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    /// As [`Message::key`].
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// As [`Message::value`].
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The headers in order: key bytes, and the value.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.headers.iter().map(|(key, value)| (&**key, value.as_deref()))
    }
}

/// Messages of one partition that lie next to each other, in order; never empty.
///
/// Offsets may have gaps, from compaction and transactions. Iterating by value or by reference gives a `Result` per
/// message, since records are decoded on the way.
pub struct Batch {
    walker: Walker,
    first_offset: i64,
}

impl Batch {
    /// From a walker that stands before its first visible message.
    pub(crate) fn new(walker: Walker, first_offset: i64) -> Self {
        Self { walker, first_offset }
    }

    /// The topic it was read from.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.walker.chunk.data.cell.topic
    }

    /// The partition it was read from.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.walker.chunk.data.cell.partition
    }

    /// The offset of its first message.
    #[must_use]
    pub fn first_offset(&self) -> i64 {
        self.first_offset
    }

    /// The position behind it: where reading goes on.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.walker.chunk.next_offset
    }

    /// Up to where the partition could be read when this batch was fetched: the high watermark, or under read committed
    /// the last stable offset.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.walker.chunk.data.readable_end
    }

    /// How many bytes its records take, decompressed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.walker.chunk.bytes
    }

    /// Its messages, from the first one.
    #[must_use]
    pub fn iter(&self) -> BatchIter {
        BatchIter {
            walker: self.walker.clone(),
        }
    }

    /// Says that the program is done with all of it: [`Message::ack`] for each of its messages. False when that does not
    /// count any more.
    #[allow(clippy::must_use_candidate, reason = "as for a message")]
    pub fn ack(&self) -> bool {
        let data = &self.walker.chunk.data;
        data.cell.ack(data, self.first_offset, self.walker.chunk.next_offset)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offsets", &(self.first_offset..self.next_offset()))
            .finish_non_exhaustive()
    }
}

impl IntoIterator for Batch {
    type Item = Result<Message>;
    type IntoIter = BatchIter;

    fn into_iter(self) -> BatchIter {
        BatchIter { walker: self.walker }
    }
}

impl IntoIterator for &Batch {
    type Item = Result<Message>;
    type IntoIter = BatchIter;

    fn into_iter(self) -> BatchIter {
        self.iter()
    }
}

/// The messages of a [`Batch`], in order.
pub struct BatchIter {
    walker: Walker,
}

impl fmt::Debug for BatchIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").finish_non_exhaustive()
    }
}

impl BatchIter {
    pub(crate) fn new(walker: Walker) -> Self {
        Self { walker }
    }

    // Not what `next` returns: the compiler would then make room for it in memory, and the common message goes there too.
    #[cold]
    #[inline(never)]
    fn next_slow(&mut self) -> Result<Option<Message>> {
        self.walker.next().transpose()
    }
}

impl Iterator for BatchIter {
    type Item = Result<Message>;

    #[inline]
    fn next(&mut self) -> Option<Result<Message>> {
        if let Some(record) = self.walker.next_common() {
            return Some(Ok(self.walker.message(record)));
        }
        self.next_slow().transpose()
    }
}

fn system_time(milliseconds: i64) -> Option<SystemTime> {
    let since = Duration::from_millis(milliseconds.unsigned_abs());
    match milliseconds {
        -1 => None,
        0.. => SystemTime::UNIX_EPOCH.checked_add(since),
        _ => SystemTime::UNIX_EPOCH.checked_sub(since),
    }
}
