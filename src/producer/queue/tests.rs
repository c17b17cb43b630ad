//! The queue's rules, one by one.

use super::*;

#[allow(
    clippy::disallowed_methods,
    reason = "where virtual time begins; nothing else reads the clock"
)]
pub(super) fn beginning() -> Instant {
    Instant::now()
}
