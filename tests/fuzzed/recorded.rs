//! Each body over its corpus, as it was recorded, cut, and full of lies.

use klamm::internals::fuzzed::{TARGETS, Target};

use crate::{
    allocated, alone,
    corpus::{self, answers},
    is_long,
    lies::{Claim, Form, claims_of_answer, cut, told},
};

/// Runs a body and says which input it was that did not hold.
struct Tried {
    target: Target,
    count: usize,
}

impl Tried {
    fn new(name: &str) -> Self {
        let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
        Self {
            target: *target,
            count: 0,
        }
    }

    #[track_caller]
    fn run(&mut self, what: &str, bytes: &[u8]) {
        self.count += 1;
        let run = || std::panic::catch_unwind(|| (self.target.run)(bytes));
        let (result, used) = allocated(run);
        let name = self.target.name;
        assert!(result.is_ok(), "{name}, {what}: {bytes:02x?}");
        let (always, each) = self.target.may_allocate;
        let most = always + each * bytes.len();
        assert!(
            used <= most,
            "{name}, {what}: {used} bytes, and {most} may be: {bytes:02x?}"
        );
    }

    fn cut(&mut self, what: &str, bytes: &[u8]) {
        let places = if is_long() { usize::MAX } else { 40 };
        for cut in cut(bytes, places) {
            self.run(&format!("{what} cut to {}", cut.len()), cut);
        }
    }

    fn told(&mut self, what: &str, bytes: &[u8], claims: &[Claim]) {
        for lie in told(bytes, claims) {
            self.run(&format!("{what} with a lie"), &lie);
        }
    }
}

#[test]
fn what_was_recorded_is_read_whole_and_cut() {
    let _alone = alone();
    for target in TARGETS {
        let mut tried = Tried::new(target.name);
        for recorded in corpus::of(target.name) {
            tried.run(&recorded.name, &recorded.bytes);
            tried.cut(&recorded.name, &recorded.bytes);
        }
        println!("{}: {} inputs", target.name, tried.count);
    }
}

/// What a fuzzer begins with, always the same: bytes that are changed, doubled, left out and brought in from elsewhere.
#[test]
fn what_was_recorded_may_be_changed_by_chance() {
    let _alone = alone();
    let times = if is_long() { 200_000 } else { 2_000 };
    for target in TARGETS {
        let mut tried = Tried::new(target.name);
        let corpus = corpus::of(target.name);
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for number in 0..times {
            let mut bytes = chance.pick(&corpus).bytes.clone();
            for _ in 0..=chance.below(6) {
                chance.change(&mut bytes, &chance.clone().pick(&corpus).bytes);
            }
            tried.run(&format!("change {number}"), &bytes);
        }
    }
}

#[derive(Clone)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const TELLING: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x10];
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(8)).min(bytes.len());
        let (any, telling) = (self.below(256) as u8, *self.pick(&TELLING));
        match self.below(6) {
            0 => bytes.insert(at, any),
            1 => bytes[at..end].fill(telling),
            2 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= any),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            _ => {
                let from = self.below(other.len() + 1);
                let to = (from + self.below(32)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
}

#[test]
fn there_is_a_recording_of_each_api_in_each_version() {
    let recorded = answers();
    for api in klamm::internals::fuzzed::answers() {
        for version in api.first..=api.last {
            let is_there = recorded
                .iter()
                .any(|answer| answer.key == api.key && answer.version == version);
            assert!(is_there, "{} v{version}", api.name);
        }
    }
}

#[test]
fn every_claim_of_every_answer_may_be_a_lie() {
    let _alone = alone();
    let mut tried = Tried::new("response");
    for answer in answers() {
        let claims = claims_of_answer(answer.key, answer.version, &answer.body);
        assert!(
            !claims.is_empty() || answer.body.len() < 20,
            "{} claims nothing",
            answer.name
        );
        for lie in told(&answer.body, &claims) {
            tried.run(&format!("{} with a lie", answer.name), &answer.with_body(&lie));
        }
    }
    println!("{} answers with a lie", tried.count);
    assert!(tried.count > 10_000, "{} lies are not all", tried.count);
}

#[test]
fn every_claim_of_every_batch_may_be_a_lie() {
    let _alone = alone();
    let mut tried = Tried::new("batch");
    for recorded in corpus::of("batch") {
        tried.told(&recorded.name, &recorded.bytes, &claims_of_batches(&recorded.bytes));
    }
    println!("{} batches with a lie", tried.count);
    assert!(tried.count > 1_000, "{} lies are not all", tried.count);
}

/// Lengths and counts of batches and old messages, and of the records that are not compressed.
fn claims_of_batches(bytes: &[u8]) -> Vec<Claim> {
    let big_endian = |at: usize, width: usize| Claim {
        place: at..at + width,
        form: Form::BigEndian,
    };
    let mut claims = Vec::new();
    let mut start = 0;
    while let Some(header) = bytes.get(start..start + 18) {
        let length = u32::from_be_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        let end = start + 12 + length;
        claims.extend([
            big_endian(start, 8),
            big_endian(start + 8, 4),
            big_endian(start + 16, 1),
        ]);
        if header[16] == 2 {
            // The last offset's delta, and the number of records.
            claims.extend([big_endian(start + 23, 4), big_endian(start + 57, 4)]);
            if bytes[start + 22] & 7 == 0 {
                claims.extend(claims_of_records(bytes, start + 61, end));
            }
        } else {
            let key = start + if header[16] == 0 { 18 } else { 26 };
            let length = i32::from_be_bytes(bytes[key..key + 4].try_into().expect("four bytes"));
            let value = key + 4 + usize::try_from(length).unwrap_or(0);
            claims.extend([big_endian(key, 4), big_endian(value, 4)]);
        }
        start = end;
    }
    assert_eq!(start, bytes.len(), "whole batches");
    claims
}

fn claims_of_records(bytes: &[u8], start: usize, end: usize) -> Vec<Claim> {
    let mut fields = Fields {
        bytes,
        at: start,
        claims: Vec::new(),
    };
    while fields.at < end {
        fields.number();
        fields.at += 1; // attributes
        fields.number(); // timestamp
        fields.number(); // offset
        fields.piece();
        fields.piece();
        for _ in 0..fields.number() {
            fields.piece();
            fields.piece();
        }
    }
    assert_eq!(fields.at, end, "whole records");
    fields.claims
}

struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    claims: Vec<Claim>,
}

impl Fields<'_> {
    fn number(&mut self) -> i64 {
        let start = self.at;
        let mut value = 0;
        loop {
            let byte = self.bytes[self.at];
            value |= u64::from(byte & 0x7f) << (7 * (self.at - start));
            self.at += 1;
            if byte < 0x80 {
                break;
            }
        }
        self.claims.push(Claim {
            place: start..self.at,
            form: Form::Zigzag,
        });
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }

    fn piece(&mut self) {
        self.at += usize::try_from(self.number()).unwrap_or(0);
    }
}

#[test]
fn every_claim_of_what_is_compressed_may_be_a_lie() {
    let _alone = alone();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let mut tried = Tried::new(codec);
        for recorded in corpus::of(codec) {
            let bytes = &recorded.bytes;
            // Frames are small: wherever a length is, four bytes of it are replaced, and so is each byte.
            let places = (0..bytes.len().min(80)).chain(bytes.len().saturating_sub(12)..bytes.len());
            for at in places {
                let forms = [
                    (1, Form::BigEndian),
                    (4, Form::BigEndian),
                    (4, Form::LittleEndian),
                    (1, Form::Varint),
                ];
                let claims = forms.map(|(width, form)| Claim {
                    place: at..(at + width).min(bytes.len()),
                    form,
                });
                tried.told(&recorded.name, bytes, &claims);
            }
        }
        println!("{codec}: {} lies", tried.count);
    }
}

#[test]
fn every_claim_of_what_members_tell_each_other_may_be_a_lie() {
    let _alone = alone();
    let mut tried = Tried::new("payloads");
    for recorded in corpus::of("payloads") {
        for at in 0..recorded.bytes.len() {
            for width in [2, 4] {
                let place = at..(at + width).min(recorded.bytes.len());
                let form = Form::BigEndian;
                tried.told(&recorded.name, &recorded.bytes, &[Claim { place, form }]);
            }
        }
    }
    assert!(tried.count > 500, "{} lies are not all", tried.count);
}

#[test]
fn every_length_of_a_frame_may_be_a_lie() {
    let _alone = alone();
    let mut tried = Tried::new("frame");
    for recorded in corpus::of("frame") {
        let claims = [1].map(|at| Claim {
            place: at..at + 4,
            form: Form::BigEndian,
        });
        tried.told(&recorded.name, &recorded.bytes, &claims);
    }
}
