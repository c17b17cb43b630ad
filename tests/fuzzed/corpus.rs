//! What was recorded.

use std::{fs, path::Path};

/// One file of a target's corpus.
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// In the order of their names.
pub(crate) fn of(target: &str) -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<_> = files
        .map(|file| {
            let file = file.expect("a file");
            Recorded {
                name: file.file_name().to_string_lossy().into_owned(),
                bytes: fs::read(file.path()).expect("a file"),
            }
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(!all.is_empty(), "nothing was recorded for {target}");
    all
}

/// An answer of the corpus `response`, in its parts.
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// With another body, as the target takes it.
    pub(crate) fn with_body(&self, body: &[u8]) -> Vec<u8> {
        [&[self.key as u8, self.version as u8], &self.header[..], body].concat()
    }
}

pub(crate) fn answers() -> Vec<Answer> {
    let all = of("response").into_iter().map(|recorded| {
        let (key, version) = (i16::from(recorded.bytes[0]), i16::from(recorded.bytes[1]));
        let known = klamm::internals::fuzzed::answers();
        let api = known
            .iter()
            .find(|api| api.key == key)
            .expect("an API that klamm speaks");
        // The correlation ID, and a header's tagged fields, of which Kafka writes none.
        let header = 2 + 4 + usize::from((api.header)(version) > 0);
        Answer {
            name: recorded.name,
            key,
            version,
            header: recorded.bytes[2..header].to_vec(),
            body: recorded.bytes[header..].to_vec(),
        }
    });
    all.collect()
}
