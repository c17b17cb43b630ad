//! What tests do to requests, and what they can read of those that came.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Api, Request};

/// So many requests are remembered; older ones are forgotten.
const REMEMBERED: usize = 10_000;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Nothing is done to it here: the next hook is asked, and then the broker.
    Pass,
    /// It is not handled; whatever it is about is refused with this [code of Kafka's](crate::error_code).
    Error(i16),
    /// It is handled after this time of the brokers' clock.
    Delay(Duration),
    /// It is not handled, and its connection ends.
    Disconnect,
    /// It is not handled and never answered, and neither is what comes after it on its connection, which stays open.
    Silence,
    /// It is handled, but only half of the answer is sent before the connection ends.
    Truncate,
    /// It is not handled; these bytes are sent in place of an answer, length and all.
    Garbage(Bytes),
    /// It is handled, but the first batch of each partition in the answer to a Fetch comes with a bit flipped. It counts
    /// as used though there be no whole batch in the answer, and for requests that are no Fetch.
    CorruptRecords,
    /// It is handled, but the connection ends before the answer.
    ThenDisconnect,
}

/// A hook on requests: tells how often it was used, and takes itself back.
///
/// It stays when this handle is dropped.
#[derive(Debug, Clone)]
pub struct Hook {
    installed: Arc<Installed>,
}

impl Hook {
    /// How many requests it has done something to.
    pub fn uses(&self) -> u64 {
        self.installed.uses.load(Ordering::SeqCst)
    }

    /// Takes it back: no request is put to it from now on.
    pub fn remove(&self) {
        self.installed.removed.store(true, Ordering::SeqCst);
    }
}

type Decide = Box<dyn FnMut(&Request) -> Action + Send>;

struct Installed {
    api: Api,
    /// How many uses it is for.
    limit: u64,
    uses: AtomicU64,
    removed: AtomicBool,
    decide: Mutex<Decide>,
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("api", &self.api)
            .field("uses", &self.uses)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Installed {
    /// `None` if it does not want the request.
    fn act(&self, request: &Request) -> Option<Action> {
        let mut decide = self.decide.lock();
        if self.is_over() {
            return None;
        }
        let action = decide(request);
        if action == Action::Pass {
            return None;
        }
        self.uses.fetch_add(1, Ordering::SeqCst);
        Some(action)
    }

    fn is_over(&self) -> bool {
        self.removed.load(Ordering::SeqCst) || self.uses.load(Ordering::SeqCst) >= self.limit
    }
}

/// All hooks, in the order in which they were set, and all requests.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    hooks: Mutex<Vec<Arc<Installed>>>,
    requests: Mutex<VecDeque<Request>>,
}

impl Faults {
    pub(crate) fn add(&self, api: Api, limit: u64, decide: Decide) -> Hook {
        let installed = Arc::new(Installed {
            api,
            limit,
            uses: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            decide: Mutex::new(decide),
        });
        let mut hooks = self.hooks.lock();
        let (over, kept): (Vec<_>, Vec<_>) = hooks.drain(..).partition(|hook| hook.is_over());
        *hooks = kept;
        hooks.push(Arc::clone(&installed));
        drop(hooks);
        // What their closures hold may do anything when it is dropped: no lock is held then.
        drop(over);
        Hook { installed }
    }

    /// What is to become of a request. No lock of the cluster's is held while hooks decide: they may do anything to it.
    pub(crate) fn decide(&self, request: &Request) -> Action {
        let hooks: Vec<_> = {
            let hooks = self.hooks.lock();
            hooks.iter().filter(|hook| hook.api == request.api()).cloned().collect()
        };
        hooks.iter().find_map(|hook| hook.act(request)).unwrap_or(Action::Pass)
    }

    /// Drops all hooks, with whatever their closures hold.
    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.hooks.lock());
        drop(dropped);
    }

    pub(crate) fn came(&self, request: Request) {
        let mut requests = self.requests.lock();
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().iter().cloned().collect()
    }

    pub(crate) fn forget_requests(&self) {
        self.requests.lock().clear();
    }
}
