//! The shapes of answers, and a walk that finds out whether an answer has its shape.
//!
//! `kafka-protocol` allocates whatever count an answer claims: six bytes make it ask for 206 GB, and the process is
//! aborted. So every answer is walked here before it is decoded there. What passes has no count and no length that
//! its own bytes do not bear out.
//!
//! What passes may still become larger than it was, since a Rust struct takes more room than its shortest form on the
//! wire: up to 50 times (a group of ListGroups v3, three bytes, is a struct of 152). An unknown tagged field inside,
//! two bytes more, becomes a node of a `BTreeMap` of 408, which makes it 112 times. Nothing exceeds that, so limiting
//! the frame limits the memory.
//!
//! The table follows Kafka 4.3, `kafka-protocol` 0.18 follows 4.1; a test holds them against each other in every
//! version that both know, and they agree. Where `kafka-protocol` is laxer than Kafka, the walk is not: it wants no
//! bytes left over, tagged fields as long as their size says, numbers that fit 32 bits, and 1 or -1 before a nullable
//! struct. A tag of a later version is unknown, and skipped, here as in Kafka; `kafka-protocol` refuses it.

mod table;
#[cfg(test)]
mod tests;

use thiserror::Error;

/// Walks `body`, an answer without its header, and says whether `kafka-protocol` may decode it.
///
/// It allocates nothing, takes time in proportion to the body, and nests as deep as the table, never as the input.
///
/// # Errors
///
/// [`LayoutError`] says what does not hold, and where. An API or version that the table does not have is an error too.
pub(crate) fn check(api_key: i16, version: i16, body: &[u8]) -> Result<(), LayoutError> {
    walk(api_key, version, body, ()).map(drop)
}

/// Where `body` claims anything about its own bytes, in the order in which the walk meets them: for tests that lie in each
/// of these places.
///
/// # Errors
///
/// As [`check`].
#[cfg(feature = "unstable-internals")]
pub(crate) fn claims(api_key: i16, version: i16, body: &[u8]) -> Result<Vec<Claim>, LayoutError> {
    walk(api_key, version, body, Vec::new())
}

fn walk<W: Watch>(api_key: i16, version: i16, body: &[u8], watch: W) -> Result<W, LayoutError> {
    let layout = find(api_key, version).ok_or(LayoutError::Unknown { api_key, version })?;
    let mut walk = Walk {
        body,
        at: 0,
        end: body.len(),
        version,
        flexible: layout.flexible.contain(version),
        watch,
    };
    walk.fields(layout.fields, "the answer")?;
    match walk.left() {
        0 => Ok(walk.watch),
        left => Err(walk.broken("the answer", Fault::LeftOver { left })),
    }
}

/// A length, a count, a tag, or a word on whether something follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// `at..end` is where it stands in the body.
    pub(crate) at: usize,
    pub(crate) end: usize,
    /// Otherwise big-endian, of as many bytes as it has.
    pub(crate) is_varint: bool,
}

/// Is told of each claim that the walk has read.
trait Watch {
    fn met(&mut self, _claim: Claim) {}
}

impl Watch for () {}

#[cfg(feature = "unstable-internals")]
impl Watch for Vec<Claim> {
    fn met(&mut self, claim: Claim) {
        self.push(claim);
    }
}

/// Why an answer must not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum LayoutError {
    /// A bug of whoever asked: such an answer was never asked for.
    #[error("there is no layout of answers to API {api_key} in version {version}")]
    Unknown { api_key: i16, version: i16 },
    /// The bytes are not what the broker says they are.
    #[error("{fault}, in {field} at byte {at}")]
    Broken {
        fault: Fault,
        /// By its name in Kafka's definitions.
        field: &'static str,
        /// From the start of the body.
        at: usize,
    },
}

/// What does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    #[error("{wanted} bytes are claimed and {left} are left")]
    Short { wanted: usize, left: usize },
    #[error("{count} elements are claimed and the {left} bytes that are left cannot hold them")]
    Crowded { count: usize, left: usize },
    #[error("the length {length} is negative")]
    Negative { length: i32 },
    #[error("null is not allowed")]
    Null,
    #[error("the number does not end within 32 bits")]
    Endless,
    #[error("{marker} stands where 1 announces a struct and -1 its absence")]
    Marker { marker: i8 },
    #[error("{left} bytes are left over")]
    LeftOver { left: usize },
    #[error("no field can have the tag {tag}")]
    Tag { tag: u32 },
}

fn find(api_key: i16, version: i16) -> Option<&'static Layout> {
    let index = table::LAYOUTS.binary_search_by_key(&api_key, |layout| layout.api_key);
    let layout = &table::LAYOUTS[index.ok()?];
    layout.versions.contain(version).then_some(layout)
}

/// The answer of one API, in all its versions.
#[derive(Debug)]
struct Layout {
    api_key: i16,
    versions: Versions,
    /// Where lengths are compact and structs end with tagged fields.
    flexible: Versions,
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    versions: Versions,
    nullable: Versions,
    /// A tagged field stands at the end of its struct, with its size in front, or not at all.
    tag: Option<u32>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Numbers, booleans, UUIDs: that many bytes.
    Fixed(u8),
    String,
    /// Records too.
    Bytes,
    Array(&'static Self),
    Struct(&'static [Field]),
}

/// A range of versions, both ends included.
#[derive(Debug, Clone, Copy)]
struct Versions {
    from: i16,
    to: i16,
}

impl Versions {
    const fn contain(self, version: i16) -> bool {
        self.from <= version && version <= self.to
    }
}

const NEVER: Versions = between(0, -1);

const fn since(from: i16) -> Versions {
    between(from, i16::MAX)
}

const fn between(from: i16, to: i16) -> Versions {
    Versions { from, to }
}

const fn field(name: &'static str, versions: Versions, kind: Kind) -> Field {
    nullable(name, versions, NEVER, kind)
}

const fn nullable(name: &'static str, versions: Versions, nullable: Versions, kind: Kind) -> Field {
    Field {
        name,
        versions,
        nullable,
        tag: None,
        kind,
    }
}

const fn tagged(name: &'static str, versions: Versions, tag: u32, kind: Kind) -> Field {
    Field {
        name,
        versions,
        nullable: NEVER,
        tag: Some(tag),
        kind,
    }
}

struct Walk<'a, W> {
    body: &'a [u8],
    /// `at <= end <= body.len()`
    at: usize,
    /// Where the body ends, or the tagged field that is walked.
    end: usize,
    version: i16,
    flexible: bool,
    watch: W,
}

impl<W: Watch> Walk<'_, W> {
    fn fields(&mut self, fields: &'static [Field], name: &'static str) -> Result<(), LayoutError> {
        for field in fields {
            if field.tag.is_none() && field.versions.contain(self.version) {
                self.value(field.kind, field.nullable.contain(self.version), field.name)?;
            }
        }
        if self.flexible {
            self.tagged_fields(fields, name)
        } else {
            Ok(())
        }
    }

    /// The order and the uniqueness of tags are left to `kafka-protocol`, which keeps the last.
    fn tagged_fields(&mut self, fields: &'static [Field], name: &'static str) -> Result<(), LayoutError> {
        let count = self.uvarint(name)? as usize;
        self.room_for(count, 2, name)?;
        for _ in 0..count {
            let tag = self.uvarint(name)?;
            // `kafka-protocol` takes it for a negative one.
            if i32::try_from(tag).is_err() {
                return Err(self.broken(name, Fault::Tag { tag }));
            }
            let size = self.uvarint(name)? as usize;
            let known = |field: &&Field| field.tag == Some(tag) && field.versions.contain(self.version);
            match fields.iter().find(known) {
                Some(field) => self.tagged_field(field, size)?,
                None => self.skip(size, name)?,
            }
        }
        Ok(())
    }

    /// `kafka-protocol` decodes a field whose tag it knows without a look at the size, so the size must be true.
    fn tagged_field(&mut self, field: &'static Field, size: usize) -> Result<(), LayoutError> {
        if size > self.left() {
            return Err(self.short(size, field.name));
        }
        let outer_end = std::mem::replace(&mut self.end, self.at + size);
        self.value(field.kind, false, field.name)?;
        match self.left() {
            0 => self.end = outer_end,
            left => return Err(self.broken(field.name, Fault::LeftOver { left })),
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind, nullable: bool, name: &'static str) -> Result<(), LayoutError> {
        match kind {
            Kind::Fixed(size) => self.skip(size.into(), name),
            Kind::Struct(fields) if nullable => {
                if self.is_there(name)? {
                    self.fields(fields, name)
                } else {
                    Ok(())
                }
            }
            Kind::Struct(fields) => self.fields(fields, name),
            Kind::String | Kind::Bytes | Kind::Array(_) => match (self.length(kind, name)?, kind) {
                (None, _) if nullable => Ok(()),
                (None, _) => Err(self.broken(name, Fault::Null)),
                (Some(count), Kind::Array(element)) => self.elements(*element, count, name),
                (Some(size), _) => self.skip(size, name),
            },
        }
    }

    fn elements(&mut self, kind: Kind, count: usize, name: &'static str) -> Result<(), LayoutError> {
        // At least one byte each, so that the walk cannot take longer than the body is.
        let smallest = self.smallest(kind, false).max(1);
        self.room_for(count, smallest, name)?;
        (0..count).try_for_each(|_| self.value(kind, false, name))
    }

    /// The fewest bytes a value can have.
    fn smallest(&self, kind: Kind, nullable: bool) -> usize {
        match kind {
            Kind::Fixed(size) => size.into(),
            Kind::Struct(_) if nullable => 1,
            Kind::Struct(fields) => {
                let there = fields
                    .iter()
                    .filter(|field| field.tag.is_none() && field.versions.contain(self.version));
                let sizes = there.map(|field| self.smallest(field.kind, field.nullable.contain(self.version)));
                sizes.sum::<usize>() + usize::from(self.flexible)
            }
            Kind::String | Kind::Bytes | Kind::Array(_) if self.flexible => 1,
            Kind::String => 2,
            Kind::Bytes | Kind::Array(_) => 4,
        }
    }

    fn room_for(&self, count: usize, smallest: usize, name: &'static str) -> Result<(), LayoutError> {
        let left = self.left();
        if count > left / smallest {
            return Err(self.broken(name, Fault::Crowded { count, left }));
        }
        Ok(())
    }

    /// A length or count; `None` is null.
    fn length(&mut self, kind: Kind, name: &'static str) -> Result<Option<usize>, LayoutError> {
        if self.flexible {
            return Ok((self.uvarint(name)? as usize).checked_sub(1));
        }
        let start = self.at;
        let length = match kind {
            Kind::String => i16::from_be_bytes(self.bytes(name)?).into(),
            _ => i32::from_be_bytes(self.bytes(name)?),
        };
        self.met(start, false);
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => {
                self.at = start;
                Err(self.broken(name, Fault::Negative { length }))
            }
        }
    }

    /// Whether a nullable struct follows.
    fn is_there(&mut self, name: &'static str) -> Result<bool, LayoutError> {
        let marker = i8::from_be_bytes(self.bytes(name)?);
        self.met(self.at - 1, false);
        match marker {
            1 => Ok(true),
            -1 => Ok(false),
            marker => {
                self.at -= 1;
                Err(self.broken(name, Fault::Marker { marker }))
            }
        }
    }

    fn uvarint(&mut self, name: &'static str) -> Result<u32, LayoutError> {
        let start = self.at;
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.bytes(name)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.met(start, true);
                return Ok(value);
            }
        }
        self.at = start;
        Err(self.broken(name, Fault::Endless))
    }

    fn met(&mut self, at: usize, is_varint: bool) {
        let end = self.at;
        self.watch.met(Claim { at, end, is_varint });
    }

    fn bytes<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], LayoutError> {
        match self.body[self.at..self.end].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.short(N, name)),
        }
    }

    fn skip(&mut self, size: usize, name: &'static str) -> Result<(), LayoutError> {
        if size > self.left() {
            return Err(self.short(size, name));
        }
        self.at += size;
        Ok(())
    }

    fn left(&self) -> usize {
        self.end - self.at
    }

    fn short(&self, wanted: usize, name: &'static str) -> LayoutError {
        let left = self.left();
        self.broken(name, Fault::Short { wanted, left })
    }

    fn broken(&self, field: &'static str, fault: Fault) -> LayoutError {
        let at = self.at;
        LayoutError::Broken { fault, field, at }
    }
}
