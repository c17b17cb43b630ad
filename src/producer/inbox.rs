//! Where others leave word for a sender: partitions that have something for it.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;

use super::{helm::Helm, partition::Partition, sender::Sender};
use crate::bell::Bell;

#[derive(Debug)]
pub(super) struct Inbox {
    /// The broker that the sender sends to.
    pub(super) broker: i32,
    listed: Mutex<Vec<Arc<Partition>>>,
    bell: Arc<Bell>,
    /// Where its sender is, while nobody is at work with it.
    pub(super) helm: Helm<Sender>,
    /// Since when its broker has owed something: an answer, a connection, room for a request.
    owed_since: Mutex<Option<Instant>>,
}

impl Inbox {
    pub(super) fn new(broker: i32) -> Arc<Self> {
        Arc::new(Self {
            broker,
            listed: Mutex::default(),
            bell: Arc::new(Bell::new()),
            helm: Helm::default(),
            owed_since: Mutex::default(),
        })
    }

    /// At most once for each partition that is not listed, so that it is bounded by their number.
    pub(super) fn list(&self, partition: &Arc<Partition>) {
        self.listed.lock().push(Arc::clone(partition));
    }

    pub(super) fn take(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.listed.lock())
    }

    pub(super) fn wake(&self) {
        self.bell.ring();
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(super) fn owes_since(&self, since: Option<Instant>) {
        *self.owed_since.lock() = since;
    }

    pub(super) fn owed_since(&self) -> Option<Instant> {
        *self.owed_since.lock()
    }
}
