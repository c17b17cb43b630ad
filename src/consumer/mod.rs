//! Reading partitions.
//!
//! ```text
//! broker ▸ fetch_lane ● ▸ fetcher ● ▸ wire/batch ▸ buffer ▸ stream ▸ the program
//!              ▴ fetch_session, fetch_plan, budget ○      ▴ keeper ● (metadata, new partitions)
//! ```
//!
//! A *lane* asks one broker for all partitions that have room, and parses the answer as it reads it. A *fetcher* per
//! partition checks, inflates and filters what came. The *buffer* holds chunks of decoded batches, bounded, until an
//! *iterator* takes a lease on a partition and goes through a chunk without any further synchronisation.
//!
//! What the program says of its messages goes the other way: `acks` finds what may be committed, `ownership` is shared by
//! all who hold something of a partition that a group has given us, and `handover` is how it comes and goes. The group
//! itself is a layer above (`group`).

mod aborted;
mod acks;
mod budget;
pub(crate) mod buffer;
pub(crate) mod config;
pub(crate) mod event;
mod fetch_lane;
mod fetch_plan;
mod fetch_session;
mod fetcher;
pub(crate) mod handover;
mod intervals;
mod iter;
pub(crate) mod keeper;
mod lease;
mod message;
pub(crate) mod ownership;
mod partition;
mod reader;
mod slot_map;
mod spares;
pub(crate) mod stream;

pub use acks::{AckMode, CommitOrder};
pub use config::PrefetchRule;
pub use event::{Event, Events, Health, Problem};
pub use iter::{Batches, Iter, Next};
pub use message::{Batch, BatchIter, Message, OwnedMessage};
pub use reader::ReaderBuilder;
pub use stream::{CloseReport, Closer, Stream};
