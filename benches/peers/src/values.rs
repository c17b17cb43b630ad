//! What is written: values of one length, one behind the other in a file.

use std::{fs, path::Path};

/// In memory before the clock starts.
#[derive(Debug)]
pub struct Values {
    bytes: Vec<u8>,
    each: usize,
}

impl Values {
    pub(crate) fn read(file: &Path, each: usize) -> Result<Self, String> {
        let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        if each == 0 || bytes.is_empty() || bytes.len() % each != 0 {
            return Err(format!("{} holds no values of {each} bytes", file.display()));
        }
        Ok(Self { bytes, each })
    }

    /// The first, the second and so on, and after the last the first again.
    pub fn cycle(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.each).cycle()
    }

    /// Of each.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.each
    }

    /// All of them, one behind the other.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
