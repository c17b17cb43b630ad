//! A member of the group on a thread of its own, as a program would have it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use klamm::{AckMode, Client, Closer, GroupBuilder, StartAt, Stream};

use super::schedule::Manner;
use crate::support::{Handled, History, Recorder, now};

pub(crate) const SESSION: Duration = Duration::from_secs(2);
/// What closing may take, when nothing is in its way.
const CLOSE: Duration = Duration::from_secs(20);
const COMMIT: Duration = Duration::from_secs(10);

pub(crate) struct Member {
    thread: JoinHandle<Done>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    is_dropped: AtomicBool,
    closer: Mutex<Option<Closer>>,
    stream: Mutex<Weak<Stream>>,
}

/// What a member has done.
pub(crate) struct Done {
    pub(crate) history: History,
    /// What it has read at each place.
    pub(crate) read: HashMap<(i32, i64), Vec<u8>>,
    pub(crate) complaints: Vec<String>,
}

impl Member {
    pub(crate) fn start(name: String, client: Client, group: &str, topic: &str, manner: Manner) -> Self {
        let told = Arc::new(Told::default());
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let for_thread = Arc::clone(&told);
        let thread = thread::spawn(move || {
            let member = || settings(client.group(&group).topics([&topic]), manner);
            let mut done = run(&name, member, manner, &for_thread);
            if let Err(error) = client.close(CLOSE) {
                done.complaints.push(format!("{name}'s client: {error}"));
            }
            done
        });
        Self { thread, told }
    }

    /// It finishes what it has in hand, and closes.
    pub(crate) fn ask_to_leave(&self) {
        self.told.is_over.store(true, Ordering::SeqCst);
        if let Some(closer) = &*self.told.closer.lock().unwrap() {
            closer.close();
        }
    }

    /// What its stream says of itself.
    pub(crate) fn health(&self) -> String {
        let stream = self.told.stream.lock().unwrap().upgrade();
        stream.map_or_else(|| "no stream".to_owned(), |stream| format!("{:?}", stream.health()))
    }

    /// It lets go of its stream without another word.
    pub(crate) fn ask_to_drop(&self) {
        self.told.is_dropped.store(true, Ordering::SeqCst);
        self.ask_to_leave();
    }

    pub(crate) fn end(self) -> Done {
        self.ask_to_leave();
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn settings(group: GroupBuilder, manner: Manner) -> GroupBuilder {
    let group = group
        .start_at(StartAt::Earliest)
        .session_timeout(SESSION)
        .rebalance_timeout(SESSION)
        .heartbeat_interval(Duration::from_millis(50))
        .commit_interval(manner.commit_interval);
    if manner.acks_by_name {
        group.ack_mode(AckMode::Explicit)
    } else {
        group
    }
}

fn run(name: &str, group: impl Fn() -> GroupBuilder, manner: Manner, told: &Told) -> Done {
    let recorder = Recorder::new(name);
    let mut done = Done {
        history: History::default(),
        read: HashMap::new(),
        complaints: Vec::new(),
    };
    let Some(stream) = join(group, &recorder, told) else {
        done.history = recorder.history();
        return done;
    };
    let stream = Arc::new(stream);
    *told.stream.lock().unwrap() = Arc::downgrade(&stream);
    let watching = recorder.watch(&stream);
    recorder.joined();
    *told.closer.lock().unwrap() = Some(stream.closer());
    if told.is_over.load(Ordering::SeqCst) {
        stream.closer().close();
    }
    work(&stream, &recorder, manner, &mut done);
    let mut died = None;
    let stream = alone(stream);
    if told.is_dropped.load(Ordering::SeqCst) {
        drop(stream);
        died = Some(now());
        drop(watching);
    } else {
        let closed = stream.close(CLOSE);
        drop(watching);
        match closed {
            Ok(report) => recorder.closed(&report),
            Err(error) => done.complaints.push(format!("{name} could not close: {error}")),
        }
    }
    done.history = recorder.history();
    if let Some(at) = died {
        done.history.died(name, at);
    }
    // Nothing is ever removed from the logs: the place of a record says which one it is.
    let number = |handled: &mut Handled| handled.number = handled.offset;
    done.history.handled.iter_mut().for_each(number);
    done
}

/// Somebody may be looking at it.
fn alone(mut stream: Arc<Stream>) -> Stream {
    loop {
        match Arc::try_unwrap(stream) {
            Ok(stream) => return stream,
            Err(shared) => stream = shared,
        }
        thread::yield_now();
    }
}

/// Joining may fail while things go wrong; a program tries again.
fn join(group: impl Fn() -> GroupBuilder, recorder: &Recorder, told: &Told) -> Option<Stream> {
    while !told.is_over.load(Ordering::SeqCst) {
        match group().join() {
            Ok(stream) => return Some(stream),
            Err(error) => recorder.note(format!("could not join: {error}")),
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

fn work(stream: &Stream, recorder: &Recorder, manner: Manner, done: &mut Done) {
    let mut count = 0;
    for message in stream {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                recorder.failed("iterator", &error);
                continue;
            }
        };
        let handling = recorder.begin(&message);
        let value = message.value().unwrap_or_default().to_vec();
        let place = (message.partition(), message.offset());
        if let Some(before) = done.read.insert(place, value.clone()).filter(|before| *before != value) {
            done.complaints
                .push(format!("{place:?} was {before:?}, and then {value:?}"));
        }
        if !manner.work.is_zero() {
            thread::sleep(manner.work);
        }
        handling.end();
        count += 1;
        let commits = manner.commit_each.is_some_and(|each| count % each == 0);
        if manner.acks_by_name || commits {
            handling.ack(&message);
        }
        if commits {
            match stream.commit(COMMIT) {
                Ok(()) => recorder.committed(),
                // A program is told that a partition moved under it, or that nobody answers: what must hold still does.
                Err(error) => recorder.note(format!("could not commit: {error}")),
            }
        }
    }
}
