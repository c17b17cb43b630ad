//! Keeping the metadata fresh: one request at a time, for everybody who wants one.

use std::{collections::BTreeSet, sync::Arc, time::Duration, time::Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_protocol::{
    messages::{MetadataRequest, MetadataResponse, TopicName, metadata_request::MetadataRequestTopic},
    protocol::StrBytes,
};

use crate::{
    cluster::{Action, Cluster, Metadata, Topic, action, now},
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
};

/// Of what to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Topics<'a> {
    All,
    Named(&'a [Arc<str>]),
}

/// Who wants what, and who is asking.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    /// What the next round will ask for.
    wanted: Wanted,
    /// Rounds that have been started, and those that are over.
    started: u64,
    succeeded: u64,
    failed: Option<(u64, Error)>,
    /// Disconnects when the round that is under way is over.
    running: Option<Receiver<()>>,
    last_start: Option<Instant>,
    /// Callers of the next round.
    joined: usize,
}

#[derive(Debug, Default, Clone)]
struct Wanted {
    all: bool,
    named: BTreeSet<Arc<str>>,
}

impl Wanted {
    fn add(&mut self, topics: Topics<'_>) {
        match topics {
            Topics::All => self.all = true,
            Topics::Named(names) => {
                self.named.extend(names.iter().cloned());
            }
        }
    }
}

#[cfg(test)]
impl Refreshes {
    /// How many have asked for the round that comes next.
    pub(super) fn waiting(&self) -> usize {
        self.joined
    }
}

/// What a caller has to do.
enum Turn {
    Done(Result<()>),
    Wait(Receiver<()>),
    Ask(Sender<()>),
}

impl Cluster {
    /// Asks for metadata, because something that was known turned out to be wrong. Not more often than every 100 ms,
    /// however many partitions find out at the same time. Never creates a topic.
    ///
    /// Callers share a request that starts after they have come.
    pub(crate) fn refresh(&self, topics: Topics<'_>, deadline: &Deadline) -> Result<Arc<Metadata>> {
        self.refresh_paced(topics, PACE, deadline)
    }

    /// The same, for something that was not known: at once.
    pub(crate) fn fetch_metadata(&self, topics: Topics<'_>, deadline: &Deadline) -> Result<Arc<Metadata>> {
        self.refresh_paced(topics, Duration::ZERO, deadline)
    }

    fn refresh_paced(&self, topics: Topics<'_>, pace: Duration, deadline: &Deadline) -> Result<Arc<Metadata>> {
        let deadline = &self.listening(deadline);
        let mut round = self.join_round(topics);
        loop {
            deadline
                .check("metadata")
                .map_err(|ended| match self.0.silence.lock().as_ref() {
                    Some(last) if ended.kind() == ErrorKind::TimedOut => ended.after_last(last),
                    _ => ended,
                })?;
            match self.turn(round) {
                Turn::Done(Ok(())) => return Ok(self.metadata()),
                // The one who asked had less time than this caller, or was stopped.
                Turn::Done(Err(error)) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Closed) => {
                    round = self.join_round(topics);
                }
                Turn::Done(Err(error)) => return Err(error),
                Turn::Wait(done) => drop(deadline.wait(&done)),
                Turn::Ask(done) => {
                    let result = self.run_round(pace, deadline);
                    self.end_round(done, &result);
                    return result.map(|()| self.metadata());
                }
            }
        }
    }

    /// Adds to what the next round asks for, and returns its number.
    fn join_round(&self, topics: Topics<'_>) -> u64 {
        let mut refreshes = self.0.refreshes.lock();
        refreshes.wanted.add(topics);
        refreshes.joined += 1;
        refreshes.started + 1
    }

    fn turn(&self, round: u64) -> Turn {
        let mut refreshes = self.0.refreshes.lock();
        if refreshes.succeeded >= round {
            return Turn::Done(Ok(()));
        }
        if let Some((failed, error)) = &refreshes.failed {
            if *failed >= round {
                return Turn::Done(Err(error.clone()));
            }
        }
        if let Some(done) = &refreshes.running {
            return Turn::Wait(done.clone());
        }
        let (finished, done) = bounded(0); // nothing is sent: it disconnects
        refreshes.running = Some(done);
        Turn::Ask(finished)
    }

    fn run_round(&self, pace: Duration, deadline: &Deadline) -> Result<()> {
        let last = self.0.refreshes.lock().last_start;
        let wait = last.map_or(Duration::ZERO, |last| (last + pace).saturating_duration_since(now()));
        if !wait.is_zero() {
            // Whoever comes meanwhile is part of the round.
            deadline.pause(wait, "metadata")?;
        }
        let (wanted, callers) = {
            let mut refreshes = self.0.refreshes.lock();
            refreshes.started += 1;
            refreshes.last_start = Some(now());
            (
                std::mem::take(&mut refreshes.wanted),
                std::mem::take(&mut refreshes.joined),
            )
        };
        // Without the lock: a logger may ask for metadata as well.
        log::trace!("asking for metadata, for {callers} callers");
        let request = if wanted.all {
            request([]).with_topics(None)
        } else {
            request(&wanted.named)
        };
        let answer = self.call_any(&request, deadline)?;
        if answer.error_code != 0 {
            return Err(Error::refused(answer.error_code).in_api("Metadata"));
        }
        self.merge(&answer, wanted.all);
        Ok(())
    }

    fn end_round(&self, done: Sender<()>, result: &Result<()>) {
        let mut refreshes = self.0.refreshes.lock();
        match result {
            Ok(()) => refreshes.succeeded = refreshes.started,
            Err(error) => refreshes.failed = Some((refreshes.started, error.clone())),
        }
        refreshes.running = None;
        drop(refreshes);
        drop(done);
    }

    pub(crate) fn merge(&self, answer: &MetadataResponse, all: bool) {
        let mut snapshot = self.0.metadata.write();
        Arc::make_mut(&mut *snapshot).merge(answer, all, now());
    }

    /// Topics that klamm has created itself are not unknown any more.
    pub(crate) fn forget_missing<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut snapshot = self.0.metadata.write();
        Arc::make_mut(&mut *snapshot).forget_missing(names);
    }

    /// Topics that klamm has deleted itself are not known any more.
    pub(crate) fn forget_topics<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut snapshot = self.0.metadata.write();
        Arc::make_mut(&mut *snapshot).forget_topics(names);
    }

    /// What is known of a topic, asked for if it is not known or older than `metadata_max_age`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnknownTopic`] when brokers have denied it for `unknown_topic_ttl`, or until the deadline: a topic
    /// just created is not known to every broker at once. Who asks again within that time is told so at once, as they are
    /// of a topic that was refused.
    pub(crate) fn topic(&self, name: &str, deadline: &Deadline) -> Result<Arc<Topic>> {
        let config = self.config();
        let deadline = &self.listening(deadline);
        if let Some(stop) = deadline.stopped() {
            return Err(stop.error());
        }
        let fresh = |metadata: &Metadata| {
            let topic = metadata.topic(name)?;
            // What is refused may be allowed in a moment: that is believed no longer than that a topic is missing.
            let most = match topic.error {
                0 => config.metadata_max_age,
                _ => config.metadata_max_age.min(config.unknown_topic_ttl),
            };
            topic.is_younger_than(most, now()).then(|| Arc::clone(topic))
        };
        let mut last: Option<Error> = None;
        if let Some(topic) = fresh(&self.metadata()) {
            match described(topic) {
                // What may pass is not believed until the metadata is old: nobody else may ever ask again.
                Err(error) if action(&error) != Action::Fail => last = Some(error),
                described => return described,
            }
        }
        let is_news = last.is_none();
        if self.metadata().is_missing(name, now()) {
            return Err(unknown(name));
        }
        let names = [Arc::from(name)];
        let mut failures = 0;
        let mut denied_since = None;
        loop {
            let asked = if failures == 0 && is_news {
                self.fetch_metadata(Topics::Named(&names), deadline)
            } else {
                self.refresh(Topics::Named(&names), deadline)
            };
            let found = asked.and_then(|metadata| match metadata.topic(name) {
                Some(topic) => described(Arc::clone(topic)),
                None => Err(unknown(name)),
            });
            let error = match found {
                Ok(topic) => return Ok(topic),
                Err(error) => error,
            };
            if let Some(stop) = deadline.stopped() {
                return Err(stop.error());
            }
            let error = match last.take() {
                // That there was no time to ask again tells less than what was heard before.
                Some(last) if error.kind() == ErrorKind::TimedOut || deadline.has_passed() => last,
                _ => error,
            };
            // What is known of it is old, but better than nothing while no broker can be asked.
            if error.kind() != ErrorKind::UnknownTopic {
                if let Some(topic) = self.metadata().topic(name).filter(|topic| topic.error == 0) {
                    log::warn!("metadata of {name} cannot be refreshed: {error}");
                    return Ok(Arc::clone(topic));
                }
            }
            let is_denied = error.kind() == ErrorKind::UnknownTopic && {
                let since = *denied_since.get_or_insert_with(now);
                now().saturating_duration_since(since) >= config.unknown_topic_ttl
            };
            if is_denied || self.metadata().is_missing(name, now()) || action(&error) == Action::Fail {
                return Err(error.for_topic(name));
            }
            failures += 1;
            if deadline.pause(self.retry_delay(failures), "metadata").is_err() {
                return Err(deadline.stopped().map_or(error.for_topic(name), |stop| stop.error()));
            }
            last = Some(error);
        }
    }
}

/// Metadata is asked for no more often than this because of errors.
const PACE: Duration = Duration::from_millis(100);

/// No broker knows this topic.
pub(crate) fn unknown(name: &str) -> Error {
    Error::refused(super::UNKNOWN_TOPIC_OR_PARTITION)
        .explained("no broker knows the topic, and klamm creates none by itself: Admin::create_topics does")
        .for_topic(name)
}

fn described(topic: Arc<Topic>) -> Result<Arc<Topic>> {
    match topic.error {
        0 => Ok(topic),
        code => Err(refused(code).for_topic(&topic.name)),
    }
}

const INVALID_TOPIC: i16 = 17;

fn refused(code: i16) -> Error {
    match code {
        INVALID_TOPIC => Error::refused(code)
            .explained("a topic's name is made of 1 to 249 letters and digits of ASCII, '.', '_' and '-'"),
        _ => Error::refused(code),
    }
}

/// Asks for these topics; for none, the brokers alone are told.
pub(crate) fn request<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> MetadataRequest {
    let topics = names.into_iter().map(|name| {
        let name = TopicName(StrBytes::from_string(name.to_string()));
        MetadataRequestTopic::default().with_name(Some(name))
    });
    MetadataRequest::default()
        .with_topics(Some(topics.collect()))
        .with_allow_auto_topic_creation(false)
}
