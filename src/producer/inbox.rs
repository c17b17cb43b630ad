//! Where others leave word for a sender: partitions that have something for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::partition::Partition;

#[derive(Debug)]
pub(super) struct Inbox {
    /// The broker that the sender sends to.
    pub(super) broker: i32,
    listed: Mutex<Vec<Arc<Partition>>>,
    bell: Bell,
    /// Since when its broker has owed something: an answer, a connection, room for a request.
    owed_since: Mutex<Option<Instant>>,
}

impl Inbox {
    pub(super) fn new(broker: i32) -> Arc<Self> {
        Arc::new(Self {
            broker,
            listed: Mutex::default(),
            bell: Bell::new(),
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

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn owes_since(&self, since: Option<Instant>) {
        *self.owed_since.lock() = since;
    }

    pub(super) fn owed_since(&self) -> Option<Instant> {
        *self.owed_since.lock()
    }
}

/// Wakes one thread, however often it is rung before that has looked.
#[derive(Debug)]
pub(super) struct Bell {
    is_rung: AtomicBool,
    ring: Sender<()>,
    rung: Receiver<()>,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (ring, rung) = bounded(1); // one is enough: it says "look"
        Self {
            is_rung: AtomicBool::new(false),
            ring,
            rung,
        }
    }

    pub(super) fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // Full: it is rung already.
            self.ring.try_send(()).ok();
        }
    }

    /// To wait on.
    pub(super) fn signal(&self) -> &Receiver<()> {
        &self.rung
    }

    /// To be called before looking: what happens from now on rings again.
    pub(super) fn quiet(&self) {
        self.rung.try_recv().ok();
        self.is_rung.store(false, Ordering::SeqCst);
    }
}
