//! The judge of all producers: what it must not let pass.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait for real brokers")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klamm::{Client, ErrorKind, Producer};

use super::topic;
use crate::support::{Load, Log, Logs, Outcome, Promise, complaints, judge, shared};

type Doctor<'a> = dyn Fn(&mut BTreeMap<i32, Log>, &mut Vec<Outcome>) + 'a;

/// Two threads' records in two partitions, and the log of them.
fn written() -> (Vec<Outcome>, Logs) {
    let (client, topic) = topic("judged", 2);
    let producer = client.producer().build().unwrap();
    let outcomes = Load::new(&producer, &topic, 2)
        .threads(2)
        .padding(10)
        .records(200)
        .run();
    let logs = judge(shared(), &topic, &outcomes);
    (outcomes, logs)
}

/// An error that a producer gives: nobody listens there.
fn an_error() -> klamm::Error {
    let client = Client::builder().bootstrap("127.0.0.1:9").connect_lazy().unwrap();
    let producer: Producer = client.producer().max_block(Duration::ZERO).build().unwrap();
    let error = producer.send(klamm::Record::to("nowhere").value("x")).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::OutcomeUnknown);
    error
}

#[test]
fn whatever_is_doctored_is_complained_about() {
    let (outcomes, logs) = written();
    let logs: BTreeMap<i32, Log> = (*logs).clone();
    let check = |promise: Promise, logs: &BTreeMap<i32, Log>, outcomes: &[Outcome]| complaints(promise, logs, outcomes);
    assert_eq!(check(Promise::default(), &logs, &outcomes), Vec::<String>::new());
    assert!(
        logs.values()
            .all(|log| log.records.len() == 200 && !log.batches.is_empty())
    );

    let complains = |what: &str, doctor: &Doctor<'_>| {
        let (mut logs, mut outcomes) = (logs.clone(), outcomes.clone());
        doctor(&mut logs, &mut outcomes);
        let found = check(Promise::default(), &logs, &outcomes);
        assert!(
            found.iter().any(|said| said.contains(what)),
            "{what:?} is not in {found:?}"
        );
    };
    complains("is not in the log", &|logs, _| {
        logs.get_mut(&1).unwrap().records.pop();
    });
    complains("is in the log at [", &|logs, _| {
        // There twice, and the delivery told one of the two.
        let records = &mut logs.get_mut(&0).unwrap().records;
        let mut again = records[3].clone();
        again.offset = 200;
        records.push(again);
    });
    complains("lies behind", &|logs, _| logs.get_mut(&0).unwrap().records.reverse());
    complains("is in the log at [200]", &|logs, _| {
        // Elsewhere than its delivery has told.
        logs.get_mut(&0).unwrap().records.last_mut().unwrap().offset = 200;
    });
    complains("was never sent", &|_, outcomes| drop(outcomes.pop()));
    complains("was never sent", &|logs, _| {
        logs.get_mut(&0).unwrap().records[7].value = "something else".to_owned();
    });
    complains("is not what was sent there", &|logs, _| {
        let moved = logs.get_mut(&0).unwrap().records.pop().unwrap();
        logs.get_mut(&1).unwrap().records.push(moved);
    });
    complains("is not what was sent there", &|logs, _| {
        logs.get_mut(&0).unwrap().records[7].value.pop();
    });
    complains("is in the log at [", &|_, outcomes| {
        outcomes[9].result = Some(Err(an_error()))
    });
    complains("is in the log at [", &|_, outcomes| {
        outcomes[9].result = Some(Err(an_error()));
        outcomes[9].taken = false;
    });
    complains("no outcome", &|_, outcomes| outcomes[9].result = None);
    complains("had its outcome after", &|_, outcomes| {
        outcomes[9].took = Duration::from_secs(150);
    });
    complains("is due", &|logs, _| {
        logs.get_mut(&0).unwrap().batches[0].base_sequence = 1
    });
    complains("is due", &|logs, _| {
        // A fresh producer ID in the middle that does not begin at 0.
        let batches = &mut logs.get_mut(&0).unwrap().batches;
        let mut last = batches.pop().unwrap();
        last.producer_id += 1;
        last.base_sequence = last.base_sequence.max(1);
        batches.push(last);
    });
    complains("is due", &|logs, _| {
        // The same batch again.
        let batches = &mut logs.get_mut(&0).unwrap().batches;
        batches.push(batches.last().unwrap().clone());
    });
    complains("no producer ID", &|logs, _| {
        logs.get_mut(&0).unwrap().batches[0].producer_id = -1
    });
}

#[test]
fn what_was_not_promised_is_not_complained_about() {
    let (outcomes, logs) = written();
    let loose = Promise {
        nothing_is_lost: false,
        nothing_is_doubled: false,
        sequences: false,
        ..Promise::default()
    };
    let mut doctored: BTreeMap<i32, Log> = (*logs).clone();
    let log = doctored.get_mut(&0).unwrap();
    log.batches[0].producer_id = -1;
    log.records.remove(5);
    let mut again = log.records[5].clone();
    again.offset = 200;
    log.records.push(again);
    assert_eq!(complaints(loose, &doctored, &outcomes), Vec::<String>::new());
    // Order is.
    doctored.get_mut(&0).unwrap().records.swap(2, 4);
    doctored.get_mut(&0).unwrap().records.swap(2, 6);
    assert_ne!(complaints(loose, &doctored, &outcomes), Vec::<String>::new());
}

#[test]
fn a_load_tells_who_refused_what() {
    let (client, topic) = topic("refused", 1);
    let producer = client.producer().build().unwrap();
    let begun = Instant::now();
    let outcomes = Load::new(&producer, &topic, 2).records(10).run();
    // There is no second partition.
    let refused = outcomes.iter().filter(|outcome| !outcome.taken).count();
    assert_eq!((outcomes.len(), refused), (10, 5));
    assert!(outcomes.iter().all(|outcome| outcome.sent >= begun));
    judge(shared(), &topic, &outcomes);
}
