//! The program of a member process: as users write theirs, by the public interface alone, and recorded.

use std::io::BufRead;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use klamm::{Iter, Message, Next, Stream};

use super::settings::{Pattern, Told};
use crate::support::checker::{Handling, Recorder};

const CLOSE_LIMIT: Duration = Duration::from_secs(10);
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// How long a round of `Pattern::Collect` waits for one message more.
const ROUND: Duration = Duration::from_millis(50);

/// Joins as its environment says, handles messages until its input says "stop" or ends, closes, and returns.
pub fn run_member() {
    let Some(told) = Told::read() else {
        println!("this is a program that other tests start");
        return;
    };
    let recorder = Recorder::to_file(&told.name, &told.log);
    let client = Told::connect().unwrap_or_else(|error| fail(&recorder, "connect", &error));
    let stream = told
        .open(&client)
        .unwrap_or_else(|error| fail(&recorder, "join", &error));
    let watching = recorder.watch(&stream);
    recorder.joined();

    let closer = stream.closer();
    // Ends with the process: nothing can wake it.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        closer.close();
    });
    let member = Member { told, stream, recorder };
    member.work();

    let Member { stream, recorder, .. } = member;
    let report = stream.close(CLOSE_LIMIT);
    drop(watching);
    match report {
        Ok(report) => recorder.closed(&report),
        Err(error) => fail(&recorder, "close", &error),
    }
}

fn fail(recorder: &Recorder, place: &str, error: &klamm::Error) -> ! {
    recorder.failed(place, error);
    panic!("{place}: {error}");
}

struct Member {
    told: Told,
    stream: Stream,
    recorder: Recorder,
}

type Task = (Message, Handling);

impl Member {
    fn work(&self) {
        std::thread::scope(|scope| {
            for _ in 0..self.told.threads {
                match self.told.pattern {
                    Pattern::Loop => {
                        scope.spawn(|| self.iterate());
                    }
                    Pattern::Collect(count) => {
                        scope.spawn(move || self.collect(count));
                    }
                    Pattern::Pool(_) => {}
                }
            }
            if let Pattern::Pool(threads) = self.told.pattern {
                let (tasks, work) = sync_channel::<Task>(threads);
                for _ in 0..self.told.threads {
                    let tasks = tasks.clone();
                    scope.spawn(move || self.hand_out(&tasks));
                }
                drop(tasks);
                self.pool(threads, work);
            }
        });
    }

    fn iterate(&self) {
        let mut handled = 0;
        for message in &self.stream {
            let Some(message) = self.given(message) else { continue };
            let handling = self.recorder.begin(&message);
            self.handle();
            handling.end();
            handled += 1;
            let commits = self.told.commit_each.is_some_and(|each| handled % each == 0);
            if self.told.explicit || commits {
                handling.ack(&message);
            }
            if commits {
                self.commit();
            }
        }
    }

    fn hand_out(&self, tasks: &SyncSender<Task>) {
        let mut handled = 0;
        for message in &self.stream {
            let Some(message) = self.given(message) else { continue };
            let handling = self.recorder.begin(&message);
            tasks
                .send((message, handling))
                .expect("the pool works until the last sender is gone");
            handled += 1;
            if self.told.commit_each.is_some_and(|each| handled % each == 0) {
                self.commit();
            }
        }
    }

    /// Works as long as somebody hands out.
    fn pool(&self, threads: usize, work: Receiver<Task>) {
        let work = Mutex::new(work);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let task = work.lock().expect("no thread of the pool panics with the lock").recv();
                        let Ok((message, handling)) = task else { break };
                        self.handle();
                        handling.end();
                        handling.ack(&message);
                    }
                });
            }
        });
    }

    fn collect(&self, count: usize) {
        let mut iter = self.stream.iter();
        let mut rounds = 0;
        loop {
            let (tasks, ended) = self.round(&mut iter, count);
            for (message, handling) in tasks {
                self.handle();
                handling.end();
                handling.ack(&message);
            }
            rounds += 1;
            if self.told.commit_each.is_some_and(|each| rounds % each == 0) {
                self.commit();
            }
            if ended {
                break;
            }
        }
    }

    /// Waits for the first, and then takes what comes soon.
    fn round(&self, iter: &mut Iter<'_>, count: usize) -> (Vec<Task>, bool) {
        let mut tasks = Vec::new();
        while tasks.len() < count {
            let next = if tasks.is_empty() {
                iter.next()
                    .map_or(Ok(Next::Ended), |message| message.map(Next::Message))
            } else {
                iter.next_timeout(ROUND)
            };
            match next {
                Ok(Next::Message(message)) => {
                    let handling = self.recorder.begin(&message);
                    tasks.push((message, handling));
                }
                Ok(Next::Ended) => return (tasks, true),
                Ok(_) => break,
                Err(error) => self.recorder.failed("iterator", &error),
            }
        }
        (tasks, false)
    }

    fn given(&self, message: klamm::Result<Message>) -> Option<Message> {
        message
            .inspect_err(|error| self.recorder.failed("iterator", error))
            .ok()
    }

    fn handle(&self) {
        if !self.told.work.is_zero() {
            std::thread::sleep(self.told.work);
        }
    }

    fn commit(&self) {
        match self.stream.commit(COMMIT_LIMIT) {
            Ok(()) => self.recorder.committed(),
            Err(error) => self.recorder.failed("commit", &error),
        }
    }
}
