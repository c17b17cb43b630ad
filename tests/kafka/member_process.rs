//! A group member as a process of its own, so that it can be killed and frozen: this binary, started again by other tests.

#![allow(
    clippy::disallowed_methods,
    reason = "it plays the programs that use klamm: with threads of their own, and work that takes time"
)]

use crate::support::run_member;

#[test]
#[ignore = "a program that other tests start"]
fn member_process() {
    run_member();
}
