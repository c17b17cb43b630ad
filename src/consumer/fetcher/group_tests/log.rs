//! A log as values: what a broker would answer from it, and what is to be seen of it.

use super::*;

/// What is appended to a log.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Which of the offsets hold a record, so many offsets behind the last one that do not, and whether it is compressed.
    Records(Vec<bool>, u8, bool),
    Aborted(u8),
    Marker,
    /// Offsets without any batch.
    Gap(u8),
}

pub(super) fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        6 => (prop::collection::vec(prop::bool::weighted(0.8), 1..9), 0_u8..3, prop::bool::weighted(0.3))
            .prop_map(|(there, behind, compressed)| Piece::Records(there, behind, compressed)),
        1 => (1_u8..4).prop_map(Piece::Aborted),
        1 => Just(Piece::Marker),
        1 => (1_u8..4).prop_map(Piece::Gap),
    ]
}

#[derive(Clone)]
pub(super) struct Log {
    /// By base offset: the batch's bytes, and the offset behind it.
    pub(super) batches: BTreeMap<i64, (Vec<u8>, i64)>,
    /// What is to be seen.
    pub(super) records: BTreeMap<i64, Vec<u8>>,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) end: i64,
    pub(super) version: i32,
}

impl Log {
    pub(super) fn new(pieces: &[Piece]) -> Self {
        let mut log = Self {
            batches: BTreeMap::new(),
            records: BTreeMap::new(),
            aborted: Vec::new(),
            end: 0,
            version: 0,
        };
        for piece in pieces {
            log.append(piece);
        }
        log
    }

    pub(super) fn append(&mut self, piece: &Piece) {
        match piece {
            Piece::Records(there, behind, compressed) => {
                let offsets = there.iter().enumerate().filter(|(_, there)| **there);
                let deltas: Vec<u8> = offsets.map(|(at, _)| u8::try_from(at).unwrap()).collect();
                let last = u8::try_from(there.len()).unwrap() - 1 + behind;
                for &delta in &deltas {
                    let offset = self.end + i64::from(delta);
                    self.records.insert(offset, self.value(offset));
                }
                self.batch(&deltas, last, if *compressed { 3 } else { 0 }, -1, None);
            }
            Piece::Aborted(records) => {
                // One producer for each, so that where an answer begins does not matter.
                let producer_id = self.end + 1000;
                self.aborted.push(AbortedTransaction {
                    producer_id,
                    first_offset: self.end,
                });
                let deltas: Vec<u8> = (0..*records).collect();
                self.batch(&deltas, records - 1, 0x10, producer_id, None);
                self.batch(&[0], 0, 0x30, producer_id, Some(&[0, 0, 0, 0]));
            }
            Piece::Marker => self.batch(&[0], 0, 0x30, 7, Some(&[0, 0, 0, 1])),
            Piece::Gap(offsets) => self.end += i64::from(*offsets),
        }
    }

    pub(super) fn value(&self, offset: i64) -> Vec<u8> {
        format!("{}:{offset}", self.version).into_bytes()
    }

    pub(super) fn batch(&mut self, deltas: &[u8], last: u8, attributes: u8, producer_id: i64, key: Option<&[u8]>) {
        let mut records = Vec::new();
        for &delta in deltas {
            let value = self.value(self.end + i64::from(delta));
            let mut body = vec![0, 0, delta * 2];
            match key {
                Some(key) => {
                    body.push(u8::try_from(key.len()).unwrap() * 2);
                    body.extend_from_slice(key);
                }
                None => body.push(1),
            }
            body.push(u8::try_from(value.len()).unwrap() * 2);
            body.extend_from_slice(&value);
            body.push(0);
            records.push(u8::try_from(body.len()).unwrap() * 2);
            records.extend_from_slice(&body);
        }
        let mut bytes = vec![0; 61];
        if attributes & 7 == 0 {
            bytes.extend_from_slice(&records);
        } else {
            let mut compressor = Compressor::new(Compression::Lz4, None).unwrap();
            compressor.compress(&records, &mut bytes).unwrap();
        }
        let length = i32::try_from(bytes.len() - 12).unwrap();
        let count = i32::try_from(deltas.len()).unwrap();
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.end.to_be_bytes());
        put(8, &length.to_be_bytes());
        put(12, &self.version.to_be_bytes()); // the leader's epoch
        put(16, &[2]);
        put(21, &[0, attributes]);
        put(23, &i32::from(last).to_be_bytes());
        put(43, &producer_id.to_be_bytes());
        put(53, &(-1_i32).to_be_bytes());
        put(57, &count.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        let behind = self.end + i64::from(last) + 1;
        self.batches.insert(self.end, (bytes, behind));
        self.end = behind;
    }

    /// Where the batch begins that holds this offset, or the last one before it.
    pub(super) fn border(&self, at: i64) -> i64 {
        self.batches.range(..=at).next_back().map_or(0, |(&base, _)| base)
    }

    /// Removes what lies between these.
    pub(super) fn forget(&mut self, from: i64, to: i64) {
        let all = self.batches.iter().map(|(&base, &(_, behind))| (base, behind));
        let gone: Vec<_> = all.filter(|&(base, behind)| behind > from && base < to).collect();
        for (base, behind) in gone {
            self.batches.remove(&base);
            self.records.retain(|offset, _| !(base..behind).contains(offset));
        }
    }

    /// Cuts the log at a batch's border, and writes something else.
    pub(super) fn truncate(&mut self, at: i64) -> i64 {
        let at = self.border(at);
        self.batches.split_off(&at);
        self.records.split_off(&at);
        self.aborted.retain(|aborted| aborted.first_offset < at);
        self.end = at;
        self.version += 1;
        self.append(&Piece::Records(vec![true, true, false, true], 1, false));
        self.append(&Piece::Marker);
        self.append(&Piece::Records(vec![true; 5], 0, true));
        at
    }

    /// As a broker answers: whole batches from the one that holds the offset; and the position behind them.
    pub(super) fn answer(&self, from: i64, batches: usize) -> (Vec<u8>, i64) {
        let (mut bytes, mut next) = (Vec::new(), from);
        for (batch, behind) in self.batches.values().filter(|(_, behind)| *behind > from).take(batches) {
            bytes.extend_from_slice(batch);
            next = *behind;
        }
        (bytes, next)
    }

    /// What is to be seen of these offsets.
    pub(super) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = i64> + '_ {
        self.records.range(from..to.max(from)).map(|(&offset, _)| offset)
    }

    /// The end of the last batch: where reading comes to.
    pub(super) fn readable_end(&self) -> i64 {
        self.batches.values().next_back().map_or(0, |(_, behind)| *behind)
    }
}
