//! From what the properties say to what protects a connection.

use super::security::Security;
use crate::{cluster::ClusterConfig, error::Result};

/// What the program has given stays only where the properties refer to it, or say no more than that it is to be there.
pub(super) fn apply(security: Security, config: &mut ClusterConfig) -> Result<()> {
    let _ = (security, config);
    Ok(())
}
