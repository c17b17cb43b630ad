//! stand-in
use crate::{Result, cluster::*, consumer::*, net::Address};
use std::sync::Arc;
/// c
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Cluster,
}
#[derive(Debug)]
pub(crate) struct ClientHold(#[allow(dead_code)] Client);
impl ClientHold {
    pub(crate) fn register(&self, _s: &Arc<crate::consumer::buffer::Shared>) {}
}
impl Client {
    /// c
    pub fn connect(b: &str) -> Result<Self> {
        Ok(Self {
            cluster: Cluster::connect(ClusterConfig {
                bootstrap: Address::parse_list(b)?,
                ..Default::default()
            })?,
        })
    }
    /// c
    pub fn reader(&self) -> ReaderBuilder {
        ReaderBuilder::new(self.clone(), None)
    }
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }
    pub(crate) fn hold(&self) -> ClientHold {
        ClientHold(self.clone())
    }
}
