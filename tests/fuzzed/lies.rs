//! Every lie about a length, a count or a tag, one at a time.

use std::ops::Range;

/// A place that claims something about the bytes behind it.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) place: Range<usize>,
    pub(crate) form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    BigEndian,
    LittleEndian,
    /// Seven bits a byte.
    Varint,
    /// The same of a signed number, as in records.
    Zigzag,
}

/// The claims of an answer's body, as the layout table has them.
pub(crate) fn claims_of_answer(key: i16, version: i16, body: &[u8]) -> Vec<Claim> {
    let claims = klamm::internals::fuzzed::claims(key, version, body).expect("what Kafka has answered");
    let claims = claims.into_iter().map(|claim| Claim {
        place: claim.at..claim.end,
        form: if claim.is_varint { Form::Varint } else { Form::BigEndian },
    });
    claims.collect()
}

/// The bytes with each of these claims in turn made 0, −1, the most there can be, and one more than there is left.
pub(crate) fn told<'a>(bytes: &'a [u8], claims: &'a [Claim]) -> impl Iterator<Item = Vec<u8>> + 'a {
    claims.iter().flat_map(move |claim| {
        let left = bytes.len() - claim.place.end;
        claim.lies(left).into_iter().map(move |lie| {
            let (before, behind) = (&bytes[..claim.place.start], &bytes[claim.place.end..]);
            [before, &lie, behind].concat()
        })
    })
}

/// The bytes, cut everywhere, or in about so many places.
pub(crate) fn cut(bytes: &[u8], places: usize) -> impl Iterator<Item = &[u8]> {
    let stride = bytes.len().div_ceil(places).max(1);
    (0..bytes.len()).step_by(stride).map(|length| &bytes[..length])
}

impl Claim {
    fn lies(&self, left: usize) -> Vec<Vec<u8>> {
        let width = self.place.len();
        match self.form {
            Form::Varint => {
                let values = [
                    0,
                    1,
                    left as u64 + 1,
                    left as u64 + 2,
                    0x7fff_ffff,
                    0x8000_0000,
                    0xffff_ffff,
                ];
                let mut lies: Vec<_> = values.into_iter().map(varint).collect();
                // Beyond 32 bits, and without an end.
                lies.extend([varint(1 << 32), varint(u64::MAX), vec![0xff; 12]]);
                lies
            }
            Form::Zigzag => {
                let values = [
                    0,
                    -1,
                    -2,
                    left as i64 + 1,
                    0x7fff_ffff,
                    -0x8000_0000,
                    i64::MAX,
                    i64::MIN,
                ];
                let zigzag = values.map(|value| varint(((value << 1) ^ (value >> 63)) as u64));
                zigzag.into_iter().chain([vec![0xff; 12]]).collect()
            }
            Form::BigEndian | Form::LittleEndian => {
                let most = i64::MAX >> (64 - 8 * width);
                let values = [0, -1, -2, most, -most - 1, (left as i64 + 1).min(most)];
                let bytes = values.map(|value| value.to_be_bytes()[8 - width..].to_vec());
                let turned = bytes.map(|mut bytes| {
                    if self.form == Form::LittleEndian {
                        bytes.reverse();
                    }
                    bytes
                });
                turned.into()
            }
        }
    }
}

fn varint(mut left: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}
