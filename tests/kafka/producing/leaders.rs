//! Leaders move while records are written: nothing is lost, nothing comes twice, and the order holds.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait for real brokers")]

use std::time::{Duration, Instant};

use klamm::{Acks, Client, Compression, ErrorKind, Producer};

use crate::support::{Kafka, Load, Outcome, Promise, Running, is_long, judge, judge_by, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);
const METADATA: i16 = 3;

const SAFE: &[(&str, &str)] = &[("min.insync.replicas", "2")];
const EVERYWHERE: &[&[i32]] = &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];

/// More moves when KLAMM_TEST_LONG is set.
fn moves(few: usize) -> usize {
    if is_long() { 20 } else { few }
}

/// A producer of each kind, each with a topic of its own; the two that differ most, unless KLAMM_TEST_LONG is set.
fn kinds(kafka: &Kafka, client: &Client) -> Vec<(Producer, String)> {
    let kind = |name: &str, producer: klamm::ProducerBuilder| {
        let topic = unique(name);
        kafka.create_topic_on(&topic, EVERYWHERE, SAFE);
        (producer.build().unwrap(), topic)
    };
    let new = || client.producer();
    let mut kinds = vec![
        kind("default", new()),
        kind("in-flight-1", new().linger(Duration::ZERO).in_flight(1)),
    ];
    if is_long() {
        kinds.push(kind("linger-0", new().linger(Duration::ZERO)));
        kinds.push(kind("lz4", new().compression(Compression::Lz4)));
    }
    kinds
}

/// Two threads each, in a pace that leaves the machine for others, and fills several batches at a time.
fn loads(kinds: &[(Producer, String)]) -> Vec<Load<'_>> {
    kinds
        .iter()
        .map(|(producer, topic)| {
            let load = Load::new(producer, topic, 3).threads(2).padding(50);
            load.pace(10, Duration::from_millis(15))
        })
        .collect()
}

/// All of them at once, while `act` runs.
fn during(loads: &[Load<'_>], running: &[&Running], act: &mut dyn FnMut(&[&Running])) -> Vec<Vec<Outcome>> {
    let Some((first, rest)) = loads.split_first() else {
        act(running);
        return Vec::new();
    };
    let (mut others, own) = first.during(|run| {
        let mut all = running.to_vec();
        all.push(run);
        during(rest, &all, act)
    });
    others.insert(0, own);
    others
}

#[track_caller]
fn all_go_on(running: &[&Running], records: u64) -> Duration {
    let begun = Instant::now();
    for run in running {
        run.wait_for_more_everywhere(records);
    }
    begun.elapsed()
}

#[track_caller]
fn nothing_has_failed(running: &[&Running]) {
    for run in running {
        assert_eq!(run.failed(), 0, "{:?}", run.first_error());
    }
}

#[track_caller]
fn judge_all(kafka: &Kafka, kinds: &[(Producer, String)], outcomes: &[Vec<Outcome>]) {
    for ((producer, topic), outcomes) in kinds.iter().zip(outcomes) {
        assert!(outcomes.iter().all(Outcome::is_acknowledged));
        let logs = judge(kafka, topic, outcomes);
        let ids: Vec<usize> = (0..3).map(|partition| logs.producer_ids(partition).len()).collect();
        let batches: usize = logs.values().map(|log| log.batches.len()).sum();
        println!(
            "{topic}: {} records in {batches} batches, producer IDs {ids:?}",
            outcomes.len()
        );
        assert!(producer.close(LONG).unwrap().is_clean());
    }
}

fn in_sync(kafka: &Kafka, kinds: &[(Producer, String)]) {
    for (_, topic) in kinds {
        kafka.wait_until_in_sync(topic);
    }
}

#[test]
fn no_error_reaches_the_program_while_leaders_are_killed_again_and_again() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let kinds = kinds(&kafka, &client);
    let outcomes = during(&loads(&kinds), &[], &mut |running| {
        all_go_on(running, 50);
        for number in 0..moves(2) {
            in_sync(&kafka, &kinds);
            let victim = kafka.leader(&kinds[number % kinds.len()].1, (number % 3) as i32);
            kafka.kill9(victim);
            let without = all_go_on(running, 50);
            kafka.start(victim);
            let with = all_go_on(running, 50);
            println!("all went on {without:?} after broker {victim} was killed, and {with:?} after it was back");
            nothing_has_failed(running);
        }
    });
    judge_all(&kafka, &kinds, &outcomes);
}

#[test]
fn no_error_reaches_the_program_while_each_broker_is_stopped_and_started_in_turn() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let kinds = kinds(&kafka, &client);
    let outcomes = during(&loads(&kinds), &[], &mut |running| {
        all_go_on(running, 50);
        for broker in (1..=3).take(moves(2)) {
            in_sync(&kafka, &kinds);
            kafka.stop(broker);
            let without = all_go_on(running, 50);
            kafka.start(broker);
            let with = all_go_on(running, 50);
            println!("all went on {without:?} after broker {broker} was stopped, and {with:?} after it was back");
            nothing_has_failed(running);
        }
        // A broker that has restarted leads again.
        in_sync(&kafka, &kinds);
        for (_, topic) in &kinds {
            (0..3).for_each(|partition| kafka.elect_preferred_leader(topic, partition));
        }
        all_go_on(running, 50);
        nothing_has_failed(running);
    });
    judge_all(&kafka, &kinds, &outcomes);
}

#[test]
fn no_error_reaches_the_program_while_partitions_move_to_other_brokers() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let kinds = kinds(&kafka, &client);
    let outcomes = during(&loads(&kinds), &[], &mut |running| {
        all_go_on(running, 50);
        for round in 0..moves(2) {
            let topic = &kinds[round % kinds.len()].1;
            let partition = (round % 3) as i32;
            let before = kafka.leader(topic, partition);
            let others: Vec<i32> = [1, 2, 3].into_iter().filter(|broker| *broker != before).collect();
            // Away from its leader, back with all three, and back to the leader it had.
            kafka.reassign(topic, partition, &others);
            all_go_on(running, 20);
            kafka.reassign(topic, partition, &[before, others[0], others[1]]);
            kafka.wait_until_in_sync(topic);
            kafka.elect_preferred_leader(topic, partition);
            all_go_on(running, 20);
            nothing_has_failed(running);
        }
    });
    judge_all(&kafka, &kinds, &outcomes);
}

/// Its connections stay open and silent: what tells of the new leader is the metadata of others.
#[test]
fn a_partition_goes_on_where_it_is_led_while_its_old_leader_is_frozen() {
    // The others need time to show that they are not held up before the cluster notices.
    let kafka = Kafka::builder()
        .brokers(3)
        .property("broker.session.timeout.ms", 15_000)
        .start();
    // It does not help to wait for answers to be overdue.
    let client = Client::builder().bootstrap(kafka.bootstrap());
    let client = client.request_timeout(Duration::from_secs(600)).connect().unwrap();
    let topic = unique("frozen");
    kafka.create_topic_on(&topic, &[&[3, 1], &[2, 1], &[1, 2], &[3, 2]], &[]);
    let producer = client.producer().build().unwrap();
    let load = Load::new(&producer, &topic, 4).threads(2);
    let ((), outcomes) = load.during(|running| {
        running.wait_for_more_everywhere(100);
        for _ in 0..moves(1).min(5) {
            kafka.wait_until_in_sync(&topic);
            (0..4).for_each(|partition| kafka.elect_preferred_leader(&topic, partition));
            running.wait_for_more_everywhere(100);
            assert_eq!((kafka.leader(&topic, 0), kafka.leader(&topic, 3)), (3, 3));
            kafka.sigstop(3);
            let frozen = Instant::now();
            for partition in [1, 2, 1, 2] {
                running.wait_for_more(partition, 150);
                assert_eq!(kafka.leader(&topic, 0), 3, "others had to wait for the frozen one");
            }
            let others = frozen.elapsed();
            wait_until("another leader", LONG, || kafka.leader(&topic, 0) != 3);
            let elected = Instant::now();
            running.wait_for_more(0, 1);
            running.wait_for_more(3, 1);
            println!(
                "frozen, 300 records to each of two others after {others:?}; elected after {:?}, going on {:?} later",
                elected - frozen,
                elected.elapsed()
            );
            running.wait_for_more_everywhere(300);
            kafka.sigcont(3);
            running.wait_for_more_everywhere(300);
            assert_eq!(running.failed(), 0, "{:?}", running.first_error());
        }
    });
    assert!(outcomes.iter().all(Outcome::is_acknowledged));
    let logs = judge(&kafka, &topic, &outcomes);
    assert!((0..4).all(|partition| logs.producer_ids(partition).len() == 1));
}

#[test]
fn what_a_frozen_broker_has_for_too_long_ends_in_time_and_the_partition_works_again() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let topic = unique("alone");
    kafka.create_topic_on(&topic, &[&[3], &[1]], &[]);
    let limit = Duration::from_secs(8);
    let producer = client.producer().delivery_timeout(limit).build().unwrap();
    let load = Load::new(&producer, &topic, 2).delivery_timeout(limit);
    let ((), outcomes) = load.during(|running| {
        running.wait_for_more_everywhere(200);
        for _ in 0..moves(1).min(6) {
            kafka.sigstop(3);
            let definite = || running.failed() - running.unknown();
            let (unknown, known) = (running.unknown(), definite());
            wait_until("what was sent, and what was not, to be given up", LONG, || {
                running.unknown() > unknown && definite() > known
            });
            // The other partition has gone on meanwhile.
            running.wait_for_more(1, 200);
            kafka.sigcont(3);
            println!("going on {:?} after it was thawed", running.wait_for_more(0, 200));
        }
    });
    let failed = |kind: ErrorKind| {
        let of_kind = |outcome: &&Outcome| outcome.error().is_some_and(|error| error.kind() == kind);
        outcomes.iter().filter(of_kind).count()
    };
    let (unknown, timed_out) = (failed(ErrorKind::OutcomeUnknown), failed(ErrorKind::TimedOut));
    println!(
        "{unknown} outcomes unknown, {timed_out} timed out, of {}",
        outcomes.len()
    );
    assert!(unknown > 0, "something was sent");
    assert!(timed_out > 0, "something was never sent");
    let acknowledged = outcomes.iter().filter(|outcome| outcome.is_acknowledged()).count();
    assert_eq!(acknowledged + unknown + timed_out, outcomes.len());
    for outcome in outcomes.iter().filter(|outcome| !outcome.is_acknowledged()) {
        assert_eq!(outcome.partition, 0, "{outcome}");
        // A record shares the time of the batch that it came into, which may have been open for an eighth of it.
        assert!(outcome.took > limit / 2, "{outcome} after {:?}", outcome.took);
    }
    let logs = judge_by(Promise::delivery_timeout(limit), &kafka, &topic, &outcomes);
    let (ids, others) = (logs.producer_ids(0), logs.producer_ids(1));
    println!("producer IDs {ids:?} and {others:?}");
    assert_eq!(others.len(), 1, "another partition keeps its own");
    assert!(ids.len() > 1 && ids[0] == others[0], "{ids:?}");
}

/// A broker that does not lead any more says who does: neither metadata nor a pause is needed.
#[test]
fn a_producer_follows_the_hint_of_the_old_leader() {
    let kafka = Kafka::builder().brokers(3).behind_proxies().start();
    // Whoever waits for the next try is easily told from who does not.
    let pause = Duration::from_secs(20);
    let client = Client::builder().bootstrap(kafka.bootstrap());
    let client = client.retry_backoff(pause, pause).connect().unwrap();
    let topic = unique("hints");
    kafka.create_topic_on(&topic, &[&[1, 2], &[3, 1]], &[]);
    let producer = client.producer().build().unwrap();
    // The new leader may be the last one to hear of it, and then there is a pause.
    let is_hinted = |(took, asked): &(Duration, u64)| *took < pause / 4 && *asked == 0;
    let asked = || -> u64 { (1..=3).map(|broker| kafka.proxy(broker).requests(METADATA)).sum() };
    let load = Load::new(&producer, &topic, 2);
    let (seen, outcomes) = load.during(|running| {
        let mut seen = Vec::new();
        for round in 0..moves(5) {
            running.wait_for_more_everywhere(100);
            // The second one leads, or the first one again.
            let order = if round % 2 == 0 { [2, 1] } else { [1, 2] };
            kafka.reassign(&topic, 0, &order);
            kafka.wait_until_in_sync(&topic);
            running.wait_for_more_everywhere(100);
            let before = asked();
            kafka.elect_preferred_leader(&topic, 0);
            wait_until("another leader", LONG, || kafka.leader(&topic, 0) == order[0]);
            let took = running.wait_for_more(0, 100);
            seen.push((took, asked() - before));
            if !is_long() && seen.iter().any(is_hinted) {
                break;
            }
        }
        assert_eq!(running.failed(), 0, "{:?}", running.first_error());
        seen
    });
    println!("pauses and metadata requests: {seen:?}");
    assert!(seen.iter().any(is_hinted), "{seen:?}");
    judge(&kafka, &topic, &outcomes);
}

#[test]
fn with_less_than_all_acks_order_holds_and_the_producer_goes_on_when_leaders_move() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let kind = |name: &str, acks: Acks| {
        let topic = unique(name);
        kafka.create_topic_on(&topic, EVERYWHERE, &[]);
        (client.producer().acks(acks).build().unwrap(), topic)
    };
    let kinds = vec![kind("acks-leader", Acks::Leader), kind("acks-none", Acks::None)];
    // What is acknowledged under acks none says nothing: the log has to grow.
    let grows = |topic: &str| {
        // A partition that has no leader for a moment is no reason to fail.
        let end = |partition| {
            client
                .offset_for(topic, partition, klamm::StartAt::Latest)
                .ok()
                .flatten()
        };
        for partition in 0..3 {
            let mut before = None;
            wait_until("more in each partition", LONG, || {
                let now = end(partition);
                before = before.or(now);
                now.zip(before).is_some_and(|(now, before)| now > before + 50)
            });
        }
    };
    let outcomes = during(&loads(&kinds), &[], &mut |running| {
        all_go_on(running, 50);
        for number in 0..moves(2) {
            in_sync(&kafka, &kinds);
            let begun = Instant::now();
            match number % 3 {
                0 => kinds.iter().for_each(|(_, topic)| {
                    for (partition, first) in [(0, 2), (1, 3), (2, 1)] {
                        let others = [1, 2, 3].into_iter().filter(|broker| *broker != first);
                        let order: Vec<i32> = [first].into_iter().chain(others).collect();
                        kafka.reassign(topic, partition, &order);
                        kafka.elect_preferred_leader(topic, partition);
                    }
                }),
                1 => {
                    kafka.stop(1);
                    kinds.iter().for_each(|(_, topic)| grows(topic));
                    kafka.start(1);
                }
                _ => {
                    kafka.kill9(2);
                    kinds.iter().for_each(|(_, topic)| grows(topic));
                    kafka.start(2);
                }
            }
            all_go_on(running, 50);
            kinds.iter().for_each(|(_, topic)| grows(topic));
            println!("move {number}: all logs grow after {:?}", begun.elapsed());
            nothing_has_failed(running);
        }
    });
    let loose = Promise {
        nothing_is_lost: false,
        nothing_is_doubled: false,
        sequences: false,
        ..Promise::default()
    };
    let leader = judge_by(loose, &kafka, &kinds[0].1, &outcomes[0]);
    let once = Promise {
        nothing_is_doubled: true,
        ..loose
    };
    let none = judge_by(once, &kafka, &kinds[1].1, &outcomes[1]);
    for (logs, outcomes) in [(leader, &outcomes[0]), (none, &outcomes[1])] {
        let logged: usize = logs.values().map(|log| log.records.len()).sum();
        println!("{} acknowledged, {logged} in the log", outcomes.len());
    }
}

#[test]
fn too_few_replicas_are_waited_for_until_the_delivery_timeout() {
    let kafka = Kafka::builder().brokers(3).start();
    let client = Client::connect(&kafka.bootstrap()).unwrap();
    let (patient_topic, hasty_topic) = (unique("patient"), unique("hasty"));
    for topic in [&patient_topic, &hasty_topic] {
        kafka.create_topic_on(topic, &[&[2, 3]], SAFE);
    }
    let limit = Duration::from_secs(5);
    let patient = client.producer().build().unwrap();
    let hasty = client.producer().delivery_timeout(limit).build().unwrap();
    let early = Load::new(&hasty, &hasty_topic, 1)
        .delivery_timeout(limit)
        .records(100)
        .run();
    let patient_load = Load::new(&patient, &patient_topic, 1).pace(10, Duration::from_millis(20));
    let (late, outcomes) = patient_load.during(|running| {
        running.wait_for_more(0, 50);
        kafka.kill9(3);
        for topic in [&patient_topic, &hasty_topic] {
            wait_until("one replica that is in sync", LONG, || {
                kafka.partition_states(topic)[0].in_sync == [2]
            });
        }
        let load = Load::new(&hasty, &hasty_topic, 1).first_thread(1).records(1000);
        let mut late = load.delivery_timeout(limit).run();
        assert!(late.iter().all(|outcome| !outcome.is_acknowledged()));
        let waiting = running.acknowledged_in(0);
        kafka.start(3);
        println!("going on {:?} after the replica was back", running.wait_for_more(0, 50));
        assert!(running.sent() > waiting);
        assert_eq!(running.failed(), 0, "{:?}", running.first_error());
        let load = Load::new(&hasty, &hasty_topic, 1).first_thread(2).records(100);
        let after = load.delivery_timeout(limit).run();
        assert!(after.iter().all(Outcome::is_acknowledged));
        late.extend(after);
        late
    });
    assert!(outcomes.iter().all(Outcome::is_acknowledged));
    judge(&kafka, &patient_topic, &outcomes);
    let unknown = late.iter().filter(|outcome| outcome.is_unknown()).count();
    let definite = late.iter().filter(|outcome| outcome.error().is_some()).count() - unknown;
    println!("{definite} records were refused in the end, {unknown} are unknown");
    assert!(definite > 0);
    let hasty_outcomes: Vec<Outcome> = early.into_iter().chain(late).collect();
    judge_by(Promise::delivery_timeout(limit), &kafka, &hasty_topic, &hasty_outcomes);
}
