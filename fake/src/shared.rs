//! What all threads of a cluster share: its state under one lock, and the wait for it to change.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{faults::Faults, port::Port, sasl::Sasl, state::State};

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Waits for time use the brokers' clock, so whoever moves that rings as well.
    changed: Condvar,
    /// By broker; none when the cluster is closed. Locked over the whole of a crash, a restart or the end, so that no two
    /// of them meet halfway, and before all other locks.
    pub(crate) ports: Mutex<BTreeMap<i32, Port>>,
    /// Never locked while the state is.
    pub(crate) connections: Mutex<Connections>,
    pub(crate) faults: Faults,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) made: u64,
    open: HashMap<u64, (i32, TcpStream)>,
    threads: Vec<JoinHandle<()>>,
    /// Those that accept, by broker.
    pub(crate) accepting: HashMap<i32, JoinHandle<()>>,
}

/// Who waits or asks: a connection to a broker in one of its lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) node: i32,
    pub(crate) life: u64,
    pub(crate) connection: u64,
}

/// What one look at the state has come to.
pub(crate) enum Step<T> {
    Done(T),
    /// Look again when something has changed, or at this time.
    Wait(Option<Duration>),
}

impl Shared {
    pub(crate) fn new(state: State, ports: BTreeMap<i32, Port>) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            ports: Mutex::new(ports),
            connections: Mutex::default(),
            faults: Faults::default(),
        }
    }

    /// Reads.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    pub(crate) fn now(&self) -> Duration {
        self.look(|state| state.clock.now())
    }

    /// Who may come in; that never changes.
    pub(crate) fn sasl(&self) -> Arc<Sasl> {
        self.look(|state| Arc::clone(&state.sasl))
    }

    /// Writes, and wakes whoever waits for a change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        drop(state);
        self.changed.notify_all();
        result
    }

    /// The same for a broker that still runs: what came to one that was killed is not done by the next.
    pub(crate) fn change_alive<T>(&self, caller: &Caller, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.change(|state| lives(state, caller).then(|| change(state)))
    }

    /// Writes what nobody waits for.
    pub(crate) fn note<T>(&self, note: impl FnOnce(&mut State) -> T) -> T {
        note(&mut self.state.lock())
    }

    /// Takes steps until one is the last. `None` if the broker or the cluster ends meanwhile.
    pub(crate) fn wait<T>(&self, caller: &Caller, mut step: impl FnMut(&mut State, Duration) -> Step<T>) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if !lives(&state, caller) {
                return None;
            }
            let now = state.clock.now();
            match step(&mut state, now) {
                Step::Done(result) => return Some(result),
                Step::Wait(None) => self.changed.wait(&mut state),
                Step::Wait(Some(until)) => {
                    self.changed.wait_for(&mut state, until.saturating_sub(now));
                }
            }
        }
    }

    /// Lets time go by on the brokers' clock. `None` if the broker ends meanwhile.
    pub(crate) fn pause(&self, caller: &Caller, time: Duration) -> Option<()> {
        self.pause_for(caller, |_| time)
    }

    /// The same for as long as clients are told to wait, which may change meanwhile.
    pub(crate) fn throttle(&self, caller: &Caller) -> Option<()> {
        self.pause_for(caller, |state| state.throttle)
    }

    fn pause_for(&self, caller: &Caller, time: impl Fn(&State) -> Duration) -> Option<()> {
        let began = self.now();
        self.wait(caller, |state, now| {
            let until = began.saturating_add(time(state));
            if now < until {
                Step::Wait(Some(until))
            } else {
                Step::Done(())
            }
        })
    }

    /// Whether the broker still runs as it did when the caller came.
    pub(crate) fn lives(&self, caller: &Caller) -> bool {
        self.look(|state| lives(state, caller))
    }

    /// Enters a connection, unless its broker has ended: then there is nobody to serve it.
    pub(crate) fn open(&self, caller: &Caller, stream: TcpStream) -> bool {
        self.connections
            .lock()
            .open
            .insert(caller.connection, (caller.node, stream));
        // After it is entered: whoever ends the broker says so first and ends its connections then.
        let lives = self.lives(caller);
        if !lives {
            self.closed(caller.connection);
        }
        lives
    }

    pub(crate) fn closed(&self, connection: u64) {
        self.connections.lock().open.remove(&connection);
    }

    /// Ends the connections of a broker.
    pub(crate) fn hang_up(&self, node: i32) {
        for (of, stream) in self.connections.lock().open.values() {
            if *of == node {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }

    /// Remembers a thread, so that it is joined in the end; forgets those that are over.
    pub(crate) fn started(&self, thread: JoinHandle<()>) {
        let threads = &mut self.connections.lock().threads;
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Waits for all threads but the one that asks.
    pub(crate) fn join(&self) {
        loop {
            let threads = std::mem::take(&mut self.connections.lock().threads);
            if threads.is_empty() {
                return;
            }
            for thread in threads {
                if thread.thread().id() != thread::current().id() {
                    thread.join().ok();
                }
            }
        }
    }
}

fn lives(state: &State, caller: &Caller) -> bool {
    let node = state.node(caller.node);
    node.is_some_and(|node| node.is_up && node.life == caller.life)
}
