//! Partitions move between members: in good order nothing is lost, nothing comes twice, and nobody waits for ever.

mod assignors;
mod crowd;
mod orderly;
mod slow;
mod stopping;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use klamm::{Client, CloseReport, GroupBuilder, Message, Stream, TopicPartition};

use crate::support::{Checker, Handling, History, Kafka, Recorder, What, is_long, shared, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);
const NEVER: Duration = Duration::from_secs(600);

/// How often something is done that was shown a few times to hold: more often when KLAMM_TEST_LONG is set.
fn times(usually: usize, long: usize) -> usize {
    if is_long() { long } else { usually }
}

/// A topic that Java has filled: so many records in each partition.
fn topic(partitions: usize, each: usize) -> String {
    let topic = unique("handover");
    shared().create_topic(&topic, partitions, &[]);
    if each > 0 {
        shared().fill(&topic, partitions, partitions * each, "none", 10);
    }
    topic
}

/// A member's settings: a rebalance is soon noticed, and only the handing over commits.
fn settings(kafka: &Kafka, name: &str, group: &str, topics: &[&str]) -> GroupBuilder {
    let client = Client::builder().bootstrap(kafka.bootstrap()).client_id(name).connect();
    client
        .expect("a broker is there")
        .group(group)
        .topics(topics)
        .heartbeat_interval(Duration::from_millis(200))
        .commit_interval(NEVER)
}

/// A member in this process, whose threads iterate over its stream, recorded.
struct Member {
    stream: Arc<Stream>,
    recorder: Recorder,
    watching: crate::support::Watching,
    /// Those that iterate first.
    threads: Vec<JoinHandle<()>>,
}

impl Member {
    /// `work` says itself when it has ended.
    fn join(
        name: &str,
        settings: GroupBuilder,
        threads: usize,
        work: impl Fn(Message, Handling) + Send + Sync + 'static,
    ) -> Self {
        Self::join_with(name, settings, threads, move |stream, recorder| {
            for message in stream {
                match message {
                    Ok(message) => {
                        let handling = recorder.begin(&message);
                        work(message, handling);
                    }
                    Err(error) => recorder.failed("iterator", &error),
                }
            }
        })
    }

    /// `body` is what each thread does until the stream ends.
    fn join_with(
        name: &str,
        settings: GroupBuilder,
        threads: usize,
        body: impl Fn(&Stream, &Recorder) + Send + Sync + 'static,
    ) -> Self {
        let stream = Arc::new(settings.join().expect("topics are there"));
        let recorder = Recorder::new(name);
        let watching = recorder.watch(&stream);
        let body = Arc::new(body);
        let iterate = || {
            let (stream, recorder, body) = (Arc::clone(&stream), recorder.clone(), Arc::clone(&body));
            std::thread::spawn(move || body(&stream, &recorder))
        };
        let threads = (0..threads).map(|_| iterate()).collect();
        Self {
            stream,
            recorder,
            watching,
            threads,
        }
    }

    fn history(&self) -> History {
        self.recorder.history()
    }

    fn owned(&self) -> Vec<TopicPartition> {
        self.stream.assignment()
    }

    /// The latest one that it was part of; 0 before the first.
    fn generation(&self) -> i32 {
        let mut latest = 0;
        self.recorder.count(|what| {
            if let What::Rebalanced { generation, .. } = what {
                latest = *generation;
            }
            false
        });
        latest
    }

    #[track_caller]
    fn wait_until_owns(&self, count: usize) {
        wait_until(&format!("{count} partitions"), LONG, || self.owned().len() == count);
    }

    #[track_caller]
    fn wait_until_begun(&self, messages: usize) {
        wait_until(&format!("{messages} messages begun"), LONG, || {
            self.recorder.count(|what| matches!(what, What::Begin { .. })) >= messages
        });
    }

    /// Ends the loops, then closes: what was in hand is finished.
    fn leave(self) -> History {
        let (report, history) = self.leave_within(LONG);
        assert!(report.left_group, "{report:?}");
        assert_eq!(report.unfinished, [], "all loops have ended");
        assert_eq!(report.uncommitted, []);
        assert_eq!(history.failures(), [""; 0]);
        history
    }

    fn leave_within(self, limit: Duration) -> (CloseReport, History) {
        self.stream.closer().close();
        for thread in self.threads {
            thread.join().expect("no loop has panicked");
        }
        let stream = Arc::into_inner(self.stream).expect("the loops have ended");
        let report = stream.close(limit).expect("all threads end in time");
        drop(self.watching);
        self.recorder.closed(&report);
        (report, self.recorder.history())
    }
}

/// A loop body that takes this long.
fn takes(time: Duration) -> impl Fn(Message, Handling) + Send + Sync + 'static {
    move |message, handling| {
        std::thread::sleep(time);
        handling.end();
        drop(message);
    }
}

/// How many messages these members have finished.
fn finished(members: &[&Member]) -> usize {
    let ends = |member: &&Member| member.recorder.count(|what| matches!(what, What::End { .. }));
    members.iter().map(ends).sum()
}

/// Whether these members have so many partitions together, and none has too few.
fn is_shared_out(members: &[&Member], partitions: usize) -> bool {
    let counts: Vec<usize> = members.iter().map(|member| member.owned().len()).collect();
    counts.iter().sum::<usize>() == partitions && counts.iter().all(|count| *count >= partitions / members.len())
}

/// Every member begins each partition exactly behind what was finished by then: so that was committed before.
#[track_caller]
fn goes_on_where_it_was_left(checker: &Checker) {
    let history = checker.history();
    for (member, lines) in &history.lines {
        for line in lines {
            let What::Assigned { partition, position } = &line.what else {
                continue;
            };
            let ended = history
                .handled
                .iter()
                .filter(|one| one.partition == *partition && one.end.is_some_and(|end| end <= line.at));
            let behind = ended.map(|one| one.offset + 1).max().unwrap_or(0);
            assert_eq!(
                *position, behind,
                "{member} begins {partition} at {position}, and what is below {behind} was finished"
            );
        }
    }
}
