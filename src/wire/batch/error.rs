//! What can be wrong with a record batch, in words.

use crate::{Error, ErrorKind};

/// What does not hold in the batch, or the old message, at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record batch at offset {offset} cannot be read: {problem}")]
pub(crate) struct BatchError {
    pub(crate) offset: i64,
    pub(crate) problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("it claims a length of {0} bytes")]
    Length(i32),
    #[error("its format (magic {0}) is not one of Kafka's")]
    Magic(i8),
    #[error("its offsets lie outside of what offsets can be")]
    Offsets,
    #[error("it claims {0} records, which its offsets have no room for")]
    Count(i32),
    #[error("its checksum does not hold")]
    Checksum,
    #[error("it lies further than 4 GiB into its buffer")]
    Position,
    #[error("its bytes are not where its header was read")]
    Moved,

    #[error("it is compressed with codec {0}, which this version of klamm does not know")]
    UnknownCodec(u8),
    #[error("it is compressed with {0}, and klamm was built without its feature `{0}`")]
    CodecOff(&'static str),
    #[error("its {0} data is damaged")]
    Inflate(&'static str),
    #[error("it inflates beyond `decoded_batch_limit` ({0} bytes)")]
    TooLarge(usize),

    #[error("it holds fewer records than it claims")]
    RecordsMissing,
    #[error("bytes follow its last record")]
    TrailingBytes,
    #[error("a record's length reaches beyond the batch, or is negative")]
    RecordLength,
    #[error("a record's field reaches beyond the record")]
    FieldBeyondRecord,
    #[error("a record's field has a negative length")]
    NegativeLength,
    #[error("a record is longer than its fields")]
    RecordTrailing,
    #[error("a record holds a variable-length integer that is too long")]
    Varint,
    #[error("a record's offset is outside of the batch, or not above the one before it")]
    RecordOffset,
    #[error("a record's headers do not fit it")]
    Headers,

    #[error("a compressed message holds another one, or one of another format")]
    Nested,
    #[error("a compressed message holds no messages")]
    EmptyWrapper,
    #[error("its control record is not one")]
    Control,
}

impl Problem {
    #[cold]
    pub(super) fn at(self, offset: i64) -> BatchError {
        BatchError { offset, problem: self }
    }
}

impl BatchError {
    pub(crate) fn into_error(self) -> Error {
        let kind = match self.problem {
            Problem::TooLarge(_) => ErrorKind::TooLarge,
            Problem::UnknownCodec(_) | Problem::CodecOff(_) => ErrorKind::Unsupported,
            _ => ErrorKind::Corrupt,
        };
        Error::new(kind, self.to_string())
    }
}
