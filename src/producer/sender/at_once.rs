//! A small request to a broker that owes nothing, sent by the caller itself: calling a thread for it takes longer.
//!
//! Nobody waits here: the socket's buffer is empty, since all that was ever written to it is answered. For a broker that answers
//! what it has not read, there is a limit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Look, Sender};
use crate::{
    net::Connection,
    producer::{config::Acks, inbox::Inbox, partition::now},
    thread,
};

/// Less than any socket's buffer holds.
const SMALL: usize = 8 << 10;
/// What a caller waits at most when all is against it.
const LIMIT: Duration = Duration::from_millis(100);

/// Sends what is ready, if that keeps the caller no longer than a call of the thread that does it otherwise.
pub(in crate::producer) fn send_at_once(inbox: &Arc<Inbox>) {
    let _panics = CallsWhenPanicking(inbox);
    // What runs on klamm's own threads is in somebody's way already.
    let is_called = thread::is_ours() || thread::as_ours(|| inbox.helm.with(Sender::send_small)).unwrap_or(true);
    if is_called {
        inbox.wake();
    }
}

/// Its thread ends then, as if it had panicked itself.
struct CallsWhenPanicking<'a>(&'a Inbox);

impl Drop for CallsWhenPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.wake();
        }
    }
}

impl Sender {
    /// Gives the time at which to look again, which is now for all that takes more.
    fn send_small(&mut self) -> Instant {
        let now = now();
        if !self.may_send_at_once(now) {
            return now;
        }
        self.adopt();
        match self.look(now) {
            Look::Ready => {}
            Look::Later(at) => return self.look_at(at),
        }
        let batches = self.assemble_within(SMALL, SMALL);
        if batches.is_empty() {
            return now;
        }
        let is_all = self.active.len() == 1;
        self.transmit(batches, LIMIT);
        self.inbox.owes_since(self.flights.front().map(|flight| flight.at));
        if is_all && !self.flights.is_empty() {
            return self.look_at(None);
        }
        now
    }

    /// Whether there is a connection that is of no use to anybody else, and nothing to wait for.
    fn may_send_at_once(&self, now: Instant) -> bool {
        let config = &self.shared.env.config;
        let socket = &self.shared.cluster.net_config().socket;
        // Without acks it is not known what the broker has read.
        config.acks != Acks::None
            && socket.send_buffer.is_none_or(|bytes| bytes >= 4 * SMALL)
            && self.flights.is_empty()
            && self.not_before.is_none_or(|at| at <= now)
            && !self.shared.ended.is_stopped()
            && self
                .connection
                .as_ref()
                .is_some_and(|connection| !connection.is_dead() && Connection::is_free(connection))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test waits here")]
mod tests {
    use klamm_fake::{Action, Api, FakeCluster};

    use super::*;
    use crate::{Client, ProducerBuilder, Record, producer::Producer};

    const LONG: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn cluster() -> FakeCluster {
        FakeCluster::builder().topic("t", 1).start().unwrap()
    }

    /// One that has sent something, all of which is answered.
    fn at_rest(builder: ProducerBuilder) -> Producer {
        let producer = builder.linger(Duration::ZERO).build().unwrap();
        producer
            .send(Record::to("t").value("first"))
            .unwrap()
            .wait(LONG)
            .unwrap();
        until(|| flights(&producer) == Some(0));
        producer
    }

    /// How many requests are unanswered, as far as the sender has looked; none while it is looking.
    fn flights(producer: &Producer) -> Option<usize> {
        let mut count = None;
        for inbox in producer.shared().inboxes() {
            inbox.helm.with(|sender| {
                count = Some(sender.flights.len());
                Instant::now() + HOUR
            });
        }
        count
    }

    fn until(mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + LONG;
        while !holds() {
            assert!(Instant::now() < end, "it never came to that");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn produced(cluster: &FakeCluster) -> usize {
        let requests = cluster.requests();
        requests.iter().filter(|request| request.api() == Api::Produce).count()
    }

    #[test]
    fn what_is_to_leave_at_once_has_left_when_send_returns() {
        let cluster = cluster();
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let producer = at_rest(client.producer());
        for _ in 0..20 {
            let held = cluster.once(Api::Produce, |_| Action::Delay(HOUR));
            let delivery = producer.send(Record::to("t").value("next")).unwrap();
            assert_eq!(flights(&producer), Some(1), "a thread was called for it");
            until(|| held.uses() == 1);
            cluster.advance(HOUR);
            delivery.wait(LONG).unwrap();
            until(|| flights(&producer) == Some(0));
        }
        assert_eq!(cluster.end_offset("t", 0), 21);
    }

    #[test]
    fn who_waits_for_a_record_that_lingers_sends_it() {
        let cluster = cluster();
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let producer = client
            .producer()
            .linger(LONG)
            .delivery_timeout(2 * LONG)
            .build()
            .unwrap();
        producer
            .send(Record::to("t").value("first"))
            .unwrap()
            .wait(LONG)
            .unwrap();
        until(|| flights(&producer) == Some(0));
        let before = produced(&cluster);
        let delivery = producer.send(Record::to("t").value("second")).unwrap();
        until(|| flights(&producer) == Some(0));
        assert_eq!(produced(&cluster), before);
        delivery.wait(LONG).unwrap();
        assert_eq!(produced(&cluster), before + 1);
    }

    #[test]
    fn what_follows_an_unanswered_request_is_left_to_the_thread() {
        let cluster = cluster();
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let producer = at_rest(client.producer());
        cluster.once(Api::Produce, |_| Action::Delay(HOUR));
        let mut deliveries = Vec::new();
        for sent in 1..=3 {
            deliveries.push(producer.send(Record::to("t").value("x")).unwrap());
            until(|| flights(&producer) == Some(sent));
        }
        cluster.advance(HOUR);
        for (at, delivery) in deliveries.iter().enumerate() {
            assert_eq!(delivery.wait(LONG).unwrap().offset, Some(at as i64 + 1));
        }
    }

    #[test]
    fn a_request_that_a_caller_has_sent_is_overdue_like_any_other() {
        let cluster = cluster();
        let client = Client::builder()
            .bootstrap(cluster.bootstrap())
            .request_timeout(Duration::from_millis(300))
            .connect()
            .unwrap();
        let producer = at_rest(client.producer());
        let unanswered = cluster.once(Api::Produce, |_| Action::Silence);
        let delivery = producer.send(Record::to("t").value("second")).unwrap();
        assert_eq!(delivery.wait(LONG).unwrap().offset, Some(1));
        assert_eq!(unanswered.uses(), 1);
    }

    #[test]
    fn a_large_record_is_left_to_the_thread() {
        let cluster = cluster();
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let producer = at_rest(client.producer());
        let large = vec![7; 4 * SMALL];
        let delivery = producer.send(Record::to("t").value(&large)).unwrap();
        assert_eq!(delivery.wait(LONG).unwrap().offset, Some(1));
    }

    #[test]
    fn many_callers_at_once_lose_nothing_and_keep_their_order() {
        let cluster = cluster();
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let producer = at_rest(client.producer());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut last = 0;
                    for _ in 0..250 {
                        let sent = producer.send(Record::to("t").value("x")).unwrap();
                        let offset = sent.wait(LONG).unwrap().offset.unwrap();
                        assert!(offset > last);
                        last = offset;
                    }
                });
            }
        });
        assert_eq!(cluster.end_offset("t", 0), 1001);
    }

    #[test]
    fn closing_waits_for_what_a_caller_has_sent() {
        let cluster = cluster();
        let client = Client::connect(&cluster.bootstrap()).unwrap();
        let producer = at_rest(client.producer());
        cluster.once(Api::Produce, |_| Action::Delay(Duration::from_millis(50)));
        let delivery = producer.send(Record::to("t").value("last")).unwrap();
        producer.close(LONG).unwrap();
        assert_eq!(delivery.poll().unwrap().unwrap().offset, Some(1));
    }
}
