#![doc = include_str!("../README.md")]

mod api;
mod apis;
mod batch;
mod builder;
mod clock;
mod cluster;
mod control;
mod elections;
pub mod error_code;
mod faults;
mod group;
mod limits;
mod log;
mod port;
mod producers;
mod request;
mod sasl;
mod server;
mod sessions;
mod shared;
mod state;
mod topic;
mod topic_configs;
mod versions;
mod wire;

pub use api::Api;
pub use builder::Builder;
pub use cluster::FakeCluster;
pub use faults::{Action, Hook};
pub use request::Request;
pub use versions::Profile;
