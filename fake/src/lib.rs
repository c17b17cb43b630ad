#![doc = include_str!("../README.md")]

mod api;
mod apis;
mod builder;
mod clock;
mod cluster;
mod error_code;
mod group;
mod limits;
mod log;
mod server;
mod shared;
mod state;
mod topic;
mod versions;
mod wire;

pub use api::Api;
pub use builder::Builder;
pub use cluster::FakeCluster;
pub use versions::Profile;
