//! Records what a member does, in memory and, if wanted, in a file that outlives the process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use klamm::{CloseReport, Error, Event, Events, Message, Stream, TopicPartition};

use super::history::{History, Line, What, now};

/// How late an event is recorded at most, while no message begins or ends.
const PACE: Duration = Duration::from_millis(5);

/// What one member does: clones record into one log.
#[derive(Clone)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
}

struct State {
    member: String,
    lines: Vec<Line>,
    file: Option<File>,
    events: Option<Events>,
    assignments: HashMap<TopicPartition, u32>,
    calls: u64,
}

/// A message that is being handled. Dropped without an [`end`](Self::end), it was never finished.
pub struct Handling {
    recorder: Recorder,
    call: u64,
}

/// Turns events into lines until it is dropped.
#[must_use = "events are recorded as long as this lives"]
pub struct Watching {
    recorder: Recorder,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Keeps everything in memory.
    pub fn new(member: &str) -> Self {
        Self::with(member, None)
    }

    /// Also appends each line to the file, by one write of its own: it is there even if the process is killed then.
    pub fn to_file(member: &str, path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self::with(member, Some(file.expect("the log can be opened")))
    }

    fn with(member: &str, file: Option<File>) -> Self {
        // From here on time does not go back.
        now();
        Self {
            state: Arc::new(Mutex::new(State {
                member: member.to_owned(),
                lines: Vec::new(),
                file,
                events: None,
                assignments: HashMap::new(),
                calls: 0,
            })),
        }
    }

    /// Records the stream's events: assignments and their ends. Nobody else may read them.
    ///
    /// Before a message begins, what has happened before is recorded; a thread takes care of quiet times.
    pub fn watch(&self, stream: &Stream) -> Watching {
        let mut state = self.state();
        state.catch_up();
        state.events = Some(stream.events());
        state.catch_up();
        drop(state);
        let (stop, stopped) = channel::<()>();
        let recorder = self.clone();
        // Looks instead of waiting for events: an event that was taken must be recorded before a message can begin.
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                recorder.state().catch_up();
            }
        });
        Watching {
            recorder: self.clone(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// As soon as an iterator has given the message, on the iterating thread: the order of these lines is checked.
    pub fn begin(&self, message: &Message) -> Handling {
        let partition = TopicPartition::new(message.topic(), message.partition());
        let number = number(message);
        let mut state = self.state();
        state.catch_up();
        state.calls += 1;
        let call = state.calls;
        let assignment = state.assignments.get(&partition).copied().unwrap_or(0);
        state.write(What::Begin {
            call,
            partition,
            offset: message.offset(),
            number,
            assignment,
            stale: !message.is_current(),
        });
        drop(state);
        Handling {
            recorder: self.clone(),
            call,
        }
    }

    /// The program has sought: what comes of this partition from now on is in an order of its own.
    pub fn moved(&self, partition: impl Into<TopicPartition>) {
        let partition = partition.into();
        let mut state = self.state();
        state.catch_up();
        state.moved(partition);
    }

    pub fn joined(&self) {
        self.write(What::Joined);
    }

    pub fn committed(&self) {
        self.write(What::Committed);
    }

    /// The program was given an error.
    pub fn failed(&self, place: &str, error: &Error) {
        self.write(What::Failed {
            place: place.to_owned(),
            why: error.to_string(),
        });
    }

    /// The stream is closed: whatever was owned is not any more.
    pub fn closed(&self, report: &CloseReport) {
        self.write(What::Closed {
            left_group: report.left_group,
            unread: report.unread.clone(),
            unfinished: report.unfinished.clone(),
            uncommitted: report.uncommitted.clone(),
        });
    }

    pub fn note(&self, text: impl Into<String>) {
        self.write(What::Note { text: text.into() });
    }

    /// All so far.
    pub fn history(&self) -> History {
        let mut state = self.state();
        state.catch_up();
        History::of_lines(&state.member, state.lines.clone())
    }

    /// How many lines are of this kind: cheaper than the history, for those who wait.
    pub fn count(&self, mut wanted: impl FnMut(&What) -> bool) -> usize {
        let mut state = self.state();
        state.catch_up();
        state.lines.iter().filter(|line| wanted(&line.what)).count()
    }

    fn write(&self, what: What) {
        let mut state = self.state();
        state.catch_up();
        state.write(what);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, what: What) {
        let line = Line { at: now(), what };
        if let Some(file) = &mut self.file {
            let written = file.write_all(format!("{line}\n").as_bytes());
            written.expect("the log can be written");
        }
        self.lines.push(line);
    }

    fn moved(&mut self, partition: TopicPartition) {
        *self.assignments.entry(partition.clone()).or_default() += 1;
        self.write(What::Moved { partition });
    }

    fn catch_up(&mut self) {
        let Some(events) = self.events.clone() else { return };
        while let Some(event) = events.try_next() {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        let what = match event {
            Event::Assigned {
                partition, position, ..
            } => {
                *self.assignments.entry(partition.clone()).or_default() += 1;
                What::Assigned { partition, position }
            }
            Event::Revoked { partition, .. } => What::Revoked { partition },
            Event::Lost { partition, error, .. } => What::Lost {
                partition,
                why: error.to_string(),
            },
            Event::Abandoned { partition, oldest, .. } => What::Abandoned { partition, oldest },
            Event::RebalanceStarted => What::Rebalancing,
            Event::Rebalanced {
                generation,
                claimed,
                released,
                current,
                ..
            } => What::Rebalanced {
                generation,
                claimed,
                released,
                current,
            },
            // The log has become another one: what was read may come again.
            Event::Truncated { ref partition, .. } => {
                self.moved(partition.clone());
                What::Note {
                    text: format!("{event:?}"),
                }
            }
            Event::TopicRecreated { ref topic, .. } => {
                let known: Vec<_> = self
                    .assignments
                    .keys()
                    .filter(|one| one.topic() == topic)
                    .cloned()
                    .collect();
                for partition in known {
                    self.moved(partition);
                }
                What::Note {
                    text: format!("{event:?}"),
                }
            }
            event => What::Note {
                text: format!("{event:?}"),
            },
        };
        self.write(what);
    }
}

impl Handling {
    /// The work is done. In a loop that acks by asking for the next message: before it asks.
    pub fn end(&self) {
        self.recorder.write(What::End { call: self.call });
    }

    /// Acks the message; false when that did not count.
    pub fn ack(&self, message: &Message) -> bool {
        self.recorder.write(What::Acking { call: self.call });
        let counted = message.ack();
        self.recorder.write(What::Acked {
            call: self.call,
            counted,
        });
        counted
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut state = self.recorder.state();
        state.catch_up();
    }
}

/// The number in a value of `Kafka::fill`, or -1.
fn number(message: &Message) -> i64 {
    let text = message.value().and_then(|value| std::str::from_utf8(value).ok());
    let number = text.and_then(|text| {
        let mut words = text.split(':');
        let partition: i32 = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        (partition == message.partition()).then_some(number)
    });
    number.unwrap_or(-1)
}
