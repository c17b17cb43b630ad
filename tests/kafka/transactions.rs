//! Transactions of three producers, mixed: each isolation level shows what it promises.

use klamm::{Isolation, Stream};

use crate::reading::{assert_lag_becomes_0, assert_silent, client, next, numbered, position, reader, to_end, topic};
use crate::support::{Seen, Transactions, shared};

#[test]
fn read_committed_ends_before_the_open_transaction_and_shows_only_what_was_committed() {
    let topic = topic("committed", 1, &[]);
    let transactions = shared().write_transactions(&topic, 0);
    let readable = with_fates(&transactions, &["committed-", "plain-"]);
    let stable = shared().offsets(&topic)[0].last_stable;

    let ending = reader(&client(), &topic).until_end().open().expect("a topic");
    assert_eq!(numbered(&to_end(&ending)), readable);
    assert_eq!(seen(shared().java_reads_committed(&topic, 1000)), readable);

    let stream = reader(&client(), &topic).open().expect("a topic");
    let mut iter = stream.iter();
    assert_eq!(read(&mut iter, readable.len()), readable);
    assert_lag_becomes_0(&stream, &mut iter);
    assert_eq!(position(&stream, &topic, 0), stable);
    assert_silent(&mut iter);
}

#[test]
fn a_commit_lets_the_open_transaction_and_what_waits_behind_it_come() {
    let topic = topic("commit", 1, &[]);
    let transactions = shared().write_transactions(&topic, 0);
    let (stream, before) = caught_up(&topic, &transactions);
    let mut iter = stream.iter();
    assert_lag_becomes_0(&stream, &mut iter);
    let behind = with_fates(&transactions, &["open-", "after-"]);
    transactions.commit();
    assert_eq!(read(&mut iter, behind.len()), behind);
    assert_at_the_end(&stream, &mut iter, &topic);
    drop(iter);
    assert_eq!(
        seen(shared().java_reads_committed(&topic, 1000)),
        [before, behind].concat()
    );
}

#[test]
fn an_abort_lets_only_what_waits_behind_the_transaction_come() {
    let topic = topic("abort", 1, &[]);
    let transactions = shared().write_transactions(&topic, 0);
    let (stream, _) = caught_up(&topic, &transactions);
    let mut iter = stream.iter();
    assert_lag_becomes_0(&stream, &mut iter);
    let behind = with_fates(&transactions, &["after-"]);
    transactions.abort();
    assert_eq!(read(&mut iter, behind.len()), behind);
    assert_at_the_end(&stream, &mut iter, &topic);
}

#[test]
fn read_uncommitted_shows_all_data_and_no_markers() {
    let topic = topic("uncommitted", 1, &[]);
    let transactions = shared().write_transactions(&topic, 0);
    let all = with_fates(&transactions, &[""]);
    let uncommitted = || reader(&client(), &topic).isolation(Isolation::ReadUncommitted);
    let ending = uncommitted().until_end().open().expect("a topic");
    assert_eq!(numbered(&to_end(&ending)), all);

    let stream = uncommitted().open().expect("a topic");
    let mut iter = stream.iter();
    assert_eq!(read(&mut iter, all.len()), all);
    assert_at_the_end(&stream, &mut iter, &topic);
    // The marker is passed, and is not shown.
    transactions.abort();
    crate::support::wait_until("the position behind the marker", crate::reading::LONG, || {
        assert_lag_becomes_0(&stream, &mut iter);
        position(&stream, &topic, 0) == shared().offsets(&topic)[0].latest
    });
}

#[test]
fn the_smallest_answers_show_the_same_transactions() {
    let topic = topic("pieces", 1, &[]);
    let transactions = shared().write_transactions(&topic, 0);
    let readable = with_fates(&transactions, &["committed-", "plain-"]);
    // One batch an answer: what is aborted must be known from each of them.
    let stream = reader(&client(), &topic)
        .partition_max_bytes(1)
        .prefetch_count(1)
        .until_end()
        .open()
        .expect("a topic");
    assert_eq!(numbered(&to_end(&stream)), readable);
    let whole = with_fates(&transactions, &["committed-", "plain-", "open-", "after-"]);
    transactions.commit();
    // From each offset on: in the middle of transactions, too.
    for first in (0..whole.last().expect("records").0).step_by(7) {
        let stream = reader(&client(), &topic)
            .start_at(klamm::StartAt::Offset(first))
            .until_end()
            .open()
            .expect("a topic");
        let rest: Vec<_> = whole.iter().filter(|(offset, _)| *offset >= first).cloned().collect();
        assert_eq!(numbered(&to_end(&stream)), rest, "from {first} on");
    }
}

/// A stream that has read what can be read, and what that was.
fn caught_up(topic: &str, transactions: &Transactions) -> (Stream, Vec<(i64, String)>) {
    let readable = with_fates(transactions, &["committed-", "plain-"]);
    let stream = reader(&client(), topic).open().expect("a topic");
    let mut iter = stream.iter();
    assert_eq!(read(&mut iter, readable.len()), readable);
    drop(iter.next_timeout(std::time::Duration::ZERO));
    drop(iter);
    (stream, readable)
}

fn assert_at_the_end(stream: &Stream, iter: &mut klamm::Iter<'_>, topic: &str) {
    assert_lag_becomes_0(stream, iter);
    assert_eq!(position(stream, topic, 0), shared().offsets(topic)[0].latest);
}

fn read(iter: &mut klamm::Iter<'_>, count: usize) -> Vec<(i64, String)> {
    let messages: Vec<_> = (0..count).map(|_| next(iter).detach()).collect();
    numbered(&messages)
}

/// What was written with one of these fates, in the order of the log.
fn with_fates(transactions: &Transactions, fates: &[&str]) -> Vec<(i64, String)> {
    let written = transactions.written.iter();
    let mut wanted: Vec<_> = written
        .filter(|(_, value)| fates.iter().any(|fate| value.starts_with(fate)))
        .cloned()
        .collect();
    wanted.sort();
    wanted
}

fn seen(records: Vec<Seen>) -> Vec<(i64, String)> {
    records.iter().map(|record| (record.offset, record.text())).collect()
}
