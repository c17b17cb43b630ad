//! A stub that the real producer replaces: it lets the builder compile.

use super::config::ProducerConfig;
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
};

/// Writes records.
#[derive(Debug)]
#[allow(unnameable_types, reason = "a stub, to be exported when it is real")]
#[non_exhaustive]
pub struct Producer;

impl Producer {
    #[allow(clippy::needless_pass_by_value, reason = "a stub: the real one keeps both")]
    pub(super) fn start(_client: Client, _config: ProducerConfig) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, "klamm cannot write yet"))
    }
}
