//! Creating, growing and deleting topics. The controller does it; every other broker hears of it a little later.

use std::collections::HashMap;

use kafka_protocol::{
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataResponse,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_topics_request::DeleteTopicState,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use crate::{
    admin::{Admin, Results},
    cluster::{
        Action, Failed, Purpose, action,
        offsets::{milliseconds, topic_name},
        refresh,
    },
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::Ask,
};

/// A topic to be created.
///
/// ```
/// use klamm::NewTopic;
/// let topic = NewTopic::new("orders", 12, 3).config("cleanup.policy", "compact");
/// # drop(topic);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replication_factor: i16,
    configs: Vec<(String, String)>,
}

impl NewTopic {
    /// `-1` leaves the number of partitions, or of copies of each, to the broker (`num.partitions`,
    /// `default.replication.factor`).
    pub fn new(name: impl Into<String>, partitions: i32, replication_factor: i16) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor,
            configs: Vec::new(),
        }
    }

    /// A setting of the topic, by Kafka's name for it, such as `retention.ms`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let text = |text: &String| StrBytes::from_string(text.clone());
        let configs = self.configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        CreatableTopic::default()
            .with_name(topic_name(&self.name))
            .with_num_partitions(self.partitions)
            .with_replication_factor(self.replication_factor)
            .with_configs(configs.collect())
    }
}

impl Admin {
    /// Creates topics, and returns when every broker that can be reached knows them and their partitions have leaders.
    ///
    /// ```no_run
    /// # use klamm::{Client, NewTopic};
    /// # fn main() -> klamm::Result<()> {
    /// # let client = Client::connect("localhost:9092")?;
    /// let created = client
    ///     .admin()
    ///     .create_topics([NewTopic::new("orders", 12, 3), NewTopic::new("invoices", 3, 3)])?;
    /// for (topic, result) in created {
    ///     match result {
    ///         Ok(()) => println!("{topic} is there"),
    ///         Err(error) if error.code() == Some(36) => println!("{topic} was there"),
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the controller cannot be reached, or its answer was lost: the topics may have been created then. Of an
    /// item: what the broker says, such as code 36 for a topic that exists; or
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when it was created and not every broker knows it yet.
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Result<Results<String>> {
        let deadline = self.deadline();
        let topics: Vec<NewTopic> = topics.into_iter().collect();
        let names = topics.iter().map(|topic| topic.name.clone()).collect();
        let mut ids: HashMap<String, Uuid> = HashMap::new();
        let mut results = self.each(names, &deadline, |open, controller| {
            let wanted = topics.iter().filter(|topic| open.contains(&topic.name.as_str()));
            let request = CreateTopicsRequest::default()
                .with_timeout_ms(milliseconds(&deadline))
                .with_topics(wanted.map(NewTopic::to_wire).collect());
            let answer = self.slow(controller, Ask::from(&request), &deadline)?;
            let results = answer.topics.into_iter();
            Ok(results
                .map(|topic| {
                    let name = topic.name.0.to_string();
                    ids.insert(name.clone(), topic.topic_id);
                    (name, topic.error_code, topic.error_message)
                })
                .collect())
        })?;
        let created: HashMap<String, Wanted> = results
            .iter()
            .zip(&topics)
            .filter(|((_, result), _)| result.is_ok())
            .map(|((name, _), topic)| {
                let wanted = Wanted {
                    partitions: topic.partitions,
                    id: ids.get(name).copied().unwrap_or_default(),
                };
                (name.clone(), wanted)
            })
            .collect();
        self.cluster.forget_missing(created.keys().map(String::as_str));
        self.await_visible(&created, &deadline, &mut results);
        Ok(Results::new(results))
    }

    /// Deletes topics and all that is in them. Brokers go on knowing a topic for a moment after that.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// client.admin().delete_topics(["orders"])?.all()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the controller cannot be reached, or its answer was lost: the topics may have been deleted then. Of an
    /// item: [`UnknownTopic`](crate::ErrorKind::UnknownTopic), or what else the broker says.
    pub fn delete_topics<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) -> Result<Results<String>> {
        let deadline = self.deadline();
        let names = topics.into_iter().map(Into::into).collect();
        let results = self.each(names, &deadline, |open, controller| {
            // Version 6 can delete by ID as well.
            let request = |version: i16| {
                let request = DeleteTopicsRequest::default().with_timeout_ms(milliseconds(&deadline));
                let names = open.iter().map(|name| topic_name(name));
                match version {
                    6.. => {
                        let topics = names.map(|name| DeleteTopicState::default().with_name(Some(name)));
                        request.with_topics(topics.collect())
                    }
                    _ => request.with_topic_names(names.collect()),
                }
            };
            let answer = self.slow(controller, Ask::at_version(&request), &deadline)?;
            let results = answer.responses.into_iter();
            Ok(results
                .filter_map(|topic| {
                    let name = topic.name?.0.to_string();
                    Some((name, topic.error_code, topic.error_message))
                })
                .collect())
        })?;
        let deleted = results.iter().filter(|(_, result)| result.is_ok());
        self.cluster.forget_topics(deleted.map(|(name, _)| name.as_str()));
        Ok(Results::new(results))
    }

    /// Gives a topic more partitions, `total` of them as a whole, and returns when every broker that can be reached
    /// knows them. Messages stay where they are: **keys go to other partitions from now on**, so what relies on the
    /// order of a key's messages must be drained first.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// client.admin().add_partitions("orders", 24)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the controller cannot be reached, or its answer was lost: the partitions may have been added then. With
    /// what the broker says, such as code 37 when the topic has as many partitions already. With
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when they were added and not every broker knows them yet.
    pub fn add_partitions(&self, topic: &str, total: i32) -> Result<()> {
        let deadline = self.deadline();
        let mut results = self.each(vec![topic.to_owned()], &deadline, |_, controller| {
            let wanted = CreatePartitionsTopic::default()
                .with_name(topic_name(topic))
                .with_count(total)
                .with_assignments(None);
            let request = CreatePartitionsRequest::default()
                .with_timeout_ms(milliseconds(&deadline))
                .with_topics(vec![wanted]);
            let answer = self.slow(controller, Ask::from(&request), &deadline)?;
            let results = answer.results.into_iter();
            Ok(results
                .map(|topic| (topic.name.0.to_string(), topic.error_code, topic.error_message))
                .collect())
        })?;
        if results.iter().all(|(_, result)| result.is_ok()) {
            let added = HashMap::from([(
                topic.to_owned(),
                Wanted {
                    partitions: total,
                    id: Uuid::nil(),
                },
            )]);
            self.await_visible(&added, &deadline, &mut results);
        }
        Results::new(results).all().map(drop)
    }

    /// Asks the controller about each item, and again about those whose error says that it may help.
    fn each(
        &self,
        names: Vec<String>,
        deadline: &Deadline,
        mut ask: impl FnMut(&[&str], &crate::cluster::Broker) -> Result<Vec<Answered>, Failed>,
    ) -> Result<Vec<(String, Result<()>)>> {
        let mut results: HashMap<String, Result<()>> = HashMap::new();
        let tried = self.with_controller(deadline, |controller| {
            let open: Vec<&str> = names
                .iter()
                .filter(|name| results.get(*name).is_none_or(is_open))
                .map(String::as_str)
                .collect();
            if open.is_empty() {
                return Ok(());
            }
            for (name, code, message) in ask(&open, controller)? {
                results.insert(name.clone(), outcome(&name, code, message));
            }
            let again = results.values().find(|result| is_open(result));
            match again {
                Some(Err(error)) => Err(Failed {
                    error: error.clone(),
                    was_sent: true,
                }),
                _ => Ok(()),
            }
        });
        // With nothing to tell about any item, the call as a whole has failed.
        if let Err(error) = tried {
            if results.is_empty() {
                return Err(error);
            }
        }
        let missing = || Err(Error::protocol("the answer lacks this topic"));
        let results = names.into_iter().map(|name| {
            let result = results.remove(&name).unwrap_or_else(missing);
            (name, result)
        });
        Ok(results.collect())
    }

    fn slow<'a, R: kafka_protocol::protocol::Request + 'a>(
        &self,
        controller: &crate::cluster::Broker,
        ask: Ask<'a, R>,
        deadline: &Deadline,
    ) -> Result<R::Response, Failed> {
        let ask = ask.may_take(deadline.remaining());
        self.cluster.call_broker_once(controller, Purpose::Slow, ask, deadline)
    }

    /// Waits until every broker that can be reached knows these very topics, with as many partitions, each with a leader.
    fn await_visible(
        &self,
        topics: &HashMap<String, Wanted>,
        deadline: &Deadline,
        results: &mut [(String, Result<()>)],
    ) {
        if topics.is_empty() {
            return;
        }
        let brokers: Vec<i32> = self.cluster.metadata().brokers.keys().copied().collect();
        for broker in brokers {
            let Err(error) = self.await_visible_at(broker, topics, deadline) else {
                continue;
            };
            if error.kind() != ErrorKind::TimedOut && error.kind() != ErrorKind::Closed {
                log::debug!("broker {broker} cannot tell whether it knows the new topics: {error}");
                continue;
            }
            for (_, result) in results.iter_mut().filter(|(name, _)| topics.contains_key(name)) {
                *result = Err(error.clone());
            }
            return;
        }
    }

    fn await_visible_at(&self, broker: i32, topics: &HashMap<String, Wanted>, deadline: &Deadline) -> Result<()> {
        let names: Vec<std::sync::Arc<str>> = topics.keys().map(|name| name.as_str().into()).collect();
        let request = refresh::request(&names);
        let mut failures = 0;
        loop {
            let answer = self.cluster.call_broker(broker, Purpose::Control, &request, deadline)?;
            if is_visible(&answer, topics) {
                self.cluster.merge(&answer, false);
                return Ok(());
            }
            failures += 1;
            let waited_for = format!("broker {broker} to know what was created");
            let pause = self.cluster.retry_delay(failures);
            deadline.pause(pause, &waited_for)?;
        }
    }
}

/// What a broker knows when it has heard of a change.
struct Wanted {
    partitions: i32,
    /// Nil before Kafka 2.8, as in the answer that it is compared with. It tells a new topic from a deleted one of the same name, which a broker may not have heard of
    /// either: what is written there would be lost.
    id: Uuid,
}

/// An item's name, code and what the broker says about it.
type Answered = (String, i16, Option<StrBytes>);

/// Whether asking again may help. A broker that gave up waiting has made the change or will.
fn is_open(result: &Result<()>) -> bool {
    match result {
        Ok(()) => false,
        Err(error) => error.kind() != ErrorKind::TimedOut && action(error) != Action::Fail && !is_unknown(error),
    }
}

/// There is no use in waiting for a topic to appear that is to be deleted.
fn is_unknown(error: &Error) -> bool {
    error.kind() == ErrorKind::UnknownTopic
}

fn outcome(name: &str, code: i16, message: Option<StrBytes>) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    let error = Error::refused(code).for_topic(name);
    Err(match message.filter(|message| !message.is_empty()) {
        Some(message) => error.explained(&message),
        None => error,
    })
}

fn is_visible(answer: &MetadataResponse, topics: &HashMap<String, Wanted>) -> bool {
    topics.iter().all(|(name, wanted)| {
        let named = |topic: &&kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
            topic.name.as_ref().is_some_and(|given| given.as_str() == name)
        };
        answer.topics.iter().find(named).is_some_and(|topic| {
            let partitions = usize::try_from(wanted.partitions).unwrap_or(1);
            topic.error_code == 0
                && (wanted.id.is_nil() || topic.topic_id.is_nil() || topic.topic_id == wanted.id)
                && topic.partitions.len() >= partitions
                && topic.partitions.iter().all(|partition| partition.leader_id.0 >= 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        BrokerId,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    };

    use super::*;

    #[test]
    fn a_topic_is_visible_when_it_is_the_very_one_with_all_partitions_led() {
        let (new, old, unknown) = (Uuid::from_u128(2), Uuid::from_u128(1), Uuid::nil());
        let is_seen = |wanted: Uuid, told: Uuid, leaders: &[i32]| {
            let partitions = leaders
                .iter()
                .map(|&leader| MetadataResponsePartition::default().with_leader_id(BrokerId(leader)));
            let topic = MetadataResponseTopic::default()
                .with_name(Some(topic_name("t")))
                .with_topic_id(told)
                .with_partitions(partitions.collect());
            let wanted = Wanted {
                partitions: 2,
                id: wanted,
            };
            let answer = MetadataResponse::default().with_topics(vec![topic]);
            is_visible(&answer, &HashMap::from([("t".to_owned(), wanted)]))
        };
        assert!(is_seen(new, new, &[1, 2]));
        assert!(!is_seen(new, old, &[1, 2]), "deleted, and not yet heard of");
        assert!(is_seen(unknown, old, &[1, 2]) && is_seen(new, unknown, &[1, 2]));
        assert!(!is_seen(new, new, &[1]) && !is_seen(new, new, &[1, -1]));
    }
}
