//! Questions about offsets that travel together: a thousand partitions that are begun at the same time make a few requests
//! to each leader, not a thousand.
//!
//! Nobody waits for company. Whoever comes first asks at once; who comes while that is under way waits, and then one of
//! those asks for all of them. When that fails each asks for itself: what one may wait for, and what it listens to,
//! is no business of the others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_protocol::messages::{
    ListOffsetsRequest,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    list_offsets_response::ListOffsetsPartitionResponse,
};
use parking_lot::Mutex;

use super::{
    Cluster, Purpose,
    offsets::{CONSUMER, milliseconds, topic_name},
};
use crate::{
    deadline::{Deadline, Waited},
    error::{Error, Result},
    offset::Isolation,
};

/// What is asked of one partition.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) leader_epoch: i32,
    pub(super) timestamp: i64,
}

/// A broker, and the isolation level that a request has once.
type Desk = (i32, i8);

/// Who asks which broker, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct Listings {
    busy: Mutex<Busy>,
}

#[derive(Debug, Default)]
struct Busy {
    /// Of all desks, so that no place is mistaken for another one.
    next_place: u64,
    /// Those at which somebody asks, or was told to.
    lines: HashMap<Desk, Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    place: u64,
    question: Question,
    turn: Sender<Turn>,
}

/// What somebody who waits is told, once.
#[derive(Debug)]
enum Turn {
    Answered(Result<ListOffsetsPartitionResponse>),
    /// Ask, for all who wait.
    Ask,
    /// Whoever asked has failed.
    Alone,
}

/// Somebody's place at a desk; given up, or handed on, when it is dropped.
struct Place<'a> {
    listings: &'a Listings,
    desk: Desk,
    /// None once it was left.
    number: Option<u64>,
    turn: Receiver<Turn>,
    asks: bool,
}

impl Listings {
    /// Takes a place, and says that it is this one's turn to ask when nobody else does.
    fn queue(&self, desk: Desk, question: &Question) -> Place<'_> {
        let (sender, turn) = bounded(1); // each is told once
        let mut busy = self.busy.lock();
        let number = busy.next_place;
        busy.next_place += 1;
        let asks = !busy.lines.contains_key(&desk);
        let line = busy.lines.entry(desk).or_default();
        if !asks {
            line.push(Waiting {
                place: number,
                question: question.clone(),
                turn: sender,
            });
        }
        Place {
            listings: self,
            desk,
            number: Some(number),
            turn,
            asks,
        }
    }

    /// Those who can travel with this question: one about a partition that is asked about already has to wait.
    fn companions(&self, desk: Desk, question: &Question) -> Vec<Waiting> {
        let mut busy = self.busy.lock();
        let Some(line) = busy.lines.get_mut(&desk) else {
            return Vec::new();
        };
        let mut asked = HashSet::from([(Arc::clone(&question.topic), question.partition)]);
        let (companions, waiting) = std::mem::take(line).into_iter().partition(|waiting| {
            let question = &waiting.question;
            asked.insert((Arc::clone(&question.topic), question.partition))
        });
        *line = waiting;
        companions
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.busy.lock().lines.values().map(Vec::len).sum()
    }

    /// The next one asks, if anybody waits.
    fn pass_on(&self, desk: Desk) {
        let mut busy = self.busy.lock();
        while let Some(line) = busy.lines.get_mut(&desk) {
            if line.is_empty() {
                busy.lines.remove(&desk);
                return;
            }
            // Under the lock, so that whoever gives up its place sees that it is its turn.
            let next = line.remove(0);
            if next.turn.try_send(Turn::Ask).is_ok() {
                return;
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number.take().filter(|_| !self.asks) {
            let mut busy = self.listings.busy.lock();
            if let Some(line) = busy.lines.get_mut(&self.desk) {
                line.retain(|waiting| waiting.place != number);
            }
            self.asks = matches!(self.turn.try_recv(), Ok(Turn::Ask));
        }
        if self.asks {
            self.listings.pass_on(self.desk);
        }
    }
}

impl Cluster {
    /// Asks this broker, together with all who have a question for it now.
    pub(super) fn list(
        &self,
        broker: i32,
        isolation: Isolation,
        question: &Question,
        deadline: &Deadline,
    ) -> Result<ListOffsetsPartitionResponse> {
        let deadline = &self.listening(deadline);
        let desk = (broker, isolation.to_wire());
        let mut place = self.0.listings.queue(desk, question);
        if !place.asks {
            match deadline.wait(&place.turn) {
                Waited::Got(Turn::Answered(answer)) => return answer,
                Waited::Got(Turn::Ask) => place.asks = true,
                Waited::Got(Turn::Alone) | Waited::Gone => {
                    place.number = None;
                    return one(self.ask(desk, &[question], deadline)?, question);
                }
                Waited::TimedOut | Waited::Stopped => {
                    deadline.check(ANSWER)?;
                    return Err(deadline.error(ANSWER).in_api("ListOffsets"));
                }
            }
        }
        let companions = self.0.listings.companions(desk, question);
        let questions: Vec<&Question> = std::iter::once(question)
            .chain(companions.iter().map(|companion| &companion.question))
            .collect();
        let answers = self.ask(desk, &questions, deadline);
        // Others may ask while those that are answered are told.
        drop(place);
        match answers {
            Ok(mut answers) => {
                let mine = answers.remove(&key(question));
                for Waiting { question, turn, .. } in companions {
                    let answer = answers.remove(&key(&question)).ok_or_else(left_out);
                    turn.try_send(Turn::Answered(answer)).ok(); // it may have given up
                }
                mine.ok_or_else(left_out)
            }
            Err(error) => {
                for companion in companions {
                    companion.turn.try_send(Turn::Alone).ok();
                }
                Err(error)
            }
        }
    }

    fn ask(&self, (broker, isolation): Desk, questions: &[&Question], deadline: &Deadline) -> Result<Answers> {
        let mut topics: HashMap<&str, Vec<ListOffsetsPartition>> = HashMap::new();
        for question in questions {
            let wanted = ListOffsetsPartition::default()
                .with_partition_index(question.partition)
                .with_current_leader_epoch(question.leader_epoch)
                .with_timestamp(question.timestamp);
            topics.entry(&question.topic).or_default().push(wanted);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            ListOffsetsTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions)
        });
        let request = ListOffsetsRequest::default()
            .with_replica_id(CONSUMER)
            .with_isolation_level(isolation)
            .with_timeout_ms(milliseconds(deadline))
            .with_topics(topics.collect());
        let answer = self.call_broker(broker, Purpose::Control, &request, deadline)?;
        let answers = answer.topics.into_iter().flat_map(|topic| {
            let name = topic.name.0.to_string();
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| ((name.clone(), partition.partition_index), partition))
        });
        Ok(answers.collect())
    }
}

const ANSWER: &str = "an answer that others have asked for";

type Answers = HashMap<(String, i32), ListOffsetsPartitionResponse>;

fn key(question: &Question) -> (String, i32) {
    (question.topic.to_string(), question.partition)
}

fn one(mut answers: Answers, question: &Question) -> Result<ListOffsetsPartitionResponse> {
    answers.remove(&key(question)).ok_or_else(left_out)
}

fn left_out() -> Error {
    Error::protocol("the answer lacks the partition asked for").in_api("ListOffsets")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESK: Desk = (1, 0);

    fn question(partition: i32) -> Question {
        Question {
            topic: Arc::from("t"),
            partition,
            leader_epoch: -1,
            timestamp: -1,
        }
    }

    fn partitions(companions: &[Waiting]) -> Vec<i32> {
        companions
            .iter()
            .map(|companion| companion.question.partition)
            .collect()
    }

    #[test]
    fn the_first_asks_at_once_and_the_next_for_all_who_have_come_meanwhile() {
        let listings = Listings::default();
        let first = listings.queue(DESK, &question(0));
        assert!(first.asks);
        assert!(listings.companions(DESK, &question(0)).is_empty());
        let mut others: Vec<_> = (1..4)
            .map(|partition| listings.queue(DESK, &question(partition)))
            .collect();
        assert!(others.iter().all(|other| !other.asks && other.turn.is_empty()));
        drop(first);
        assert!(matches!(others[0].turn.try_recv(), Ok(Turn::Ask)));
        others[0].asks = true;
        assert_eq!(partitions(&listings.companions(DESK, &question(1))), [2, 3]);
        drop(others);
        assert!(listings.queue(DESK, &question(0)).asks, "nobody asks any more");
    }

    #[test]
    fn two_questions_about_one_partition_do_not_travel_together() {
        let listings = Listings::default();
        let first = listings.queue(DESK, &question(0));
        let others = [0, 1, 1].map(|partition| listings.queue(DESK, &question(partition)));
        assert_eq!(partitions(&listings.companions(DESK, &question(0))), [1]);
        drop(first);
        assert!(matches!(others[0].turn.try_recv(), Ok(Turn::Ask)));
    }

    #[test]
    fn who_was_served_takes_nobody_out_of_a_later_line() {
        let listings = Listings::default();
        let first = listings.queue(DESK, &question(0));
        let served = listings.queue(DESK, &question(1));
        assert_eq!(partitions(&listings.companions(DESK, &question(0))), [1]);
        drop(first);
        let _asks = listings.queue(DESK, &question(0));
        let _waits = listings.queue(DESK, &question(1));
        drop(served);
        assert_eq!(listings.waiting(), 1);
    }

    #[test]
    fn who_gives_up_when_it_is_its_turn_hands_that_on() {
        let listings = Listings::default();
        let first = listings.queue(DESK, &question(0));
        let [second, third, fourth] = [1, 2, 3].map(|partition| listings.queue(DESK, &question(partition)));
        drop(second);
        drop(first);
        drop(third);
        assert!(matches!(fourth.turn.try_recv(), Ok(Turn::Ask)));
        assert!(
            listings.queue((2, 0), &question(0)).asks,
            "other brokers are asked apart"
        );
    }
}
