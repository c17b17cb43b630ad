#![doc = include_str!("../README.md")]

mod api;
mod apis;
mod batch;
mod builder;
mod clock;
mod cluster;
mod error_code;
mod limits;
mod log;
mod producers;
mod server;
mod sessions;
mod shared;
mod state;
mod topic;
mod versions;
mod wire;

pub use api::Api;
pub use builder::Builder;
pub use cluster::FakeCluster;
pub use versions::Profile;
