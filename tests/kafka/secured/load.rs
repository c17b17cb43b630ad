//! A client that writes, reads in a group and asks questions, all at once: nothing fails, and everything is read once, in
//! order, whatever happens to it meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use klamm::{Client, Next, Producer, Record, StartAt, Stream, Topics};

use super::LONG;
use crate::support::{Times, unique};

/// Of the topic that it writes and reads.
pub(super) const PARTITIONS: i32 = 4;

/// What a run with load has seen.
pub(super) struct Run {
    pub(super) written: usize,
    /// How long a record, and a question about metadata, was under way.
    times: [Times; 2],
}

impl Run {
    /// `stretch` is how often something happens that may hold up what is under way.
    pub(super) fn tell(&self, name: &str, stretch: Duration) {
        let [writes, questions] =
            [&self.times[0], &self.times[1]].map(|times| (times.took(), times.longest_in_each(stretch)));
        println!(
            "  {name}: {} records, writes took {writes:?}, questions {questions:?}",
            self.written
        );
    }
}

/// What happens once in each stretch holds nothing up for long: for a tenth of a second, or for half as long again on a machine
/// on which everything is held up longer.
pub(super) fn compare(run: &Run, without: &Run, stretch: Duration) {
    for (times, without) in run.times.iter().zip(&without.times) {
        let [longest, without] = [times, without].map(|times| times.longest_in_each(stretch));
        let most = without + Duration::from_millis(100).max(without / 2);
        assert!(longest <= most, "{longest:?}, and without it {without:?}");
    }
}

/// Goes on until it is over.
pub(super) fn load(client: &Client, topic: &str, until: &AtomicBool) -> Run {
    let producer = client.producer().build().expect("good settings");
    let stream = client
        .group(unique("load"))
        .topics([topic])
        .start_at(StartAt::Earliest)
        .heartbeat_interval(Duration::from_millis(300))
        .commit_interval(Duration::from_millis(100))
        .join()
        .expect("it joins");
    let over = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        let writing = scope.spawn(|| write(&producer, topic, &over));
        let asking = scope.spawn(|| ask(client, topic, &over));
        let reading = scope.spawn(|| read(&stream, &over));
        let is_going = || !(writing.is_finished() || asking.is_finished() || reading.is_finished());
        while !until.load(Ordering::SeqCst) && is_going() {
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::SeqCst);
        let (written, wrote) = writing.join().expect("nothing fails");
        let asked = asking.join().expect("nothing fails");
        // The last of each partition follows all others.
        for partition in 0..PARTITIONS {
            let end = Record::to(topic).partition(partition).value("end");
            producer.send_sync(end, LONG).expect("it is written");
        }
        assert_eq!(reading.join().expect("nothing fails"), written);
        Run {
            written,
            times: [wrote, asked],
        }
    });
    let report = stream.close(LONG).expect("a report");
    assert!(report.uncommitted.is_empty(), "{report:?}");
    run
}

/// How many records, and how long each took.
fn write(producer: &Producer, topic: &str, over: &AtomicBool) -> (usize, Times) {
    let (mut count, times) = (0, Times::default());
    while !over.load(Ordering::SeqCst) {
        let number = count.to_string();
        let record = Record::to(topic).partition(count as i32 % PARTITIONS).value(&number);
        let begun = Instant::now();
        producer.send_sync(record, LONG).expect("it is written");
        times.note(begun);
        count += 1;
    }
    (count, times)
}

fn ask(client: &Client, topic: &str, over: &AtomicBool) -> Times {
    let times = Times::default();
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        client.metadata(Topics::named([topic])).expect("an answer");
        client.offset_for(topic, 0, StartAt::Latest).expect("an answer");
        times.note(begun);
        thread::sleep(Duration::from_millis(5));
    }
    times
}

/// Everything up to the end of each partition: how many.
fn read(stream: &Stream, over: &AtomicBool) -> usize {
    let mut next: Vec<i32> = (0..PARTITIONS).collect();
    let (mut count, mut ended) = (0, 0);
    let mut iter = stream.iter();
    while ended < PARTITIONS {
        match iter.next_timeout(LONG).expect("nothing fails") {
            Next::Message(message) if message.value() == Some(b"end") => {
                assert!(over.load(Ordering::SeqCst));
                message.ack();
                ended += 1;
            }
            Next::Message(message) => {
                let next = &mut next[message.partition() as usize];
                let text = String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned();
                assert_eq!(text, next.to_string(), "each once, in order");
                *next += PARTITIONS;
                message.ack();
                count += 1;
            }
            other => panic!("{other:?}; {:?}", stream.health()),
        }
    }
    count
}
