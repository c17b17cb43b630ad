//! The same lies from a broker, to a client that runs: whoever is told one goes on or says what is wrong, loses nothing,
//! and takes no memory for it.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use klamm::{Client, ClientBuilder, Error, ErrorKind, Iter, Next, Record, Stream};

use crate::{
    allocated, alone, is_long,
    liar::{
        API_VERSIONS, FETCH, FIND_COORDINATOR, Fate, HEARTBEAT, INIT_PRODUCER_ID, JOIN_GROUP, LEAVE_GROUP,
        LIST_OFFSETS, Liar, METADATA, OFFSET_COMMIT, OFFSET_FETCH, OFFSET_FOR_LEADER_EPOCH, PRODUCE, SYNC_GROUP, TOPIC,
        batches, relength,
    },
    lies::{claims_of_answer, told},
};

/// What a busy machine may take for what takes milliseconds.
const LONG: Duration = Duration::from_secs(60);

/// All that a client, its threads and the broker ask for in one run. Lies are far above it.
const MODEST: usize = 64 << 20;

#[test]
fn a_reader_is_told_every_lie_and_reads_the_log() {
    every_lie(&[API_VERSIONS, METADATA, LIST_OFFSETS, FETCH], reads);
}

#[test]
fn a_reader_of_a_new_leader_is_told_every_lie_and_reads_on() {
    every_lie(&[OFFSET_FOR_LEADER_EPOCH], reads_on);
}

#[test]
fn a_member_is_told_every_lie_and_reads_and_commits_the_log() {
    let apis = [
        FIND_COORDINATOR,
        JOIN_GROUP,
        SYNC_GROUP,
        HEARTBEAT,
        OFFSET_FETCH,
        OFFSET_COMMIT,
        LEAVE_GROUP,
    ];
    every_lie(&apis, is_member);
}

#[test]
fn a_producer_is_told_every_lie_and_writes_once() {
    every_lie(&[METADATA, INIT_PRODUCER_ID, PRODUCE], writes);
}

/// To each of these requests the oldest and the newest version answer with each lie in turn, once, and then with the truth.
fn every_lie(apis: &[i16], run: fn(&Liar) -> Result<(), Error>) {
    let _alone = alone();
    for &api in apis {
        // Two ways to write lengths; ApiVersions has the version that the client asks for.
        let versions = if api == API_VERSIONS {
            vec![None]
        } else {
            vec![Some(true), Some(false)]
        };
        for is_new in versions {
            // How many lies there are is known once the first was told.
            let count = Arc::new(AtomicUsize::new(1));
            let (mut number, mut ended) = (0, 0);
            while number < count.load(Ordering::SeqCst) {
                let what = format!("api {api}, newest {is_new:?}, lie {number}");
                let (told, used) = allocated(|| one_lie(api, is_new, number, &count, run, &what));
                assert!(used <= MODEST, "{what}: {used} bytes");
                ended += usize::from(told.is_err());
                let all = count.load(Ordering::SeqCst);
                number += if is_long() { 1 } else { all.div_ceil(MOST_LIES).max(1) };
            }
            println!(
                "api {api}, newest {is_new:?}: {} lies, {ended} said to the program",
                count.load(Ordering::SeqCst)
            );
        }
    }
}

/// Of one API in one version, unless all are wanted.
const MOST_LIES: usize = 12;

fn one_lie(
    api: i16,
    is_new: Option<bool>,
    number: usize,
    count: &Arc<AtomicUsize>,
    run: fn(&Liar) -> Result<(), Error>,
    what: &str,
) -> Result<(), Error> {
    let liar = Liar::start(batches(3));
    if let Some(is_new) = is_new {
        let (oldest, newest) = versions(api);
        let version = if is_new { newest } else { oldest };
        liar.speak(api, version, version);
    }
    let told = Arc::new(AtomicUsize::new(0));
    liar.lie(api, {
        let (told, count) = (Arc::clone(&told), Arc::clone(count));
        move |_, _| {
            if told.fetch_add(1, Ordering::SeqCst) > 0 {
                return Fate::Send;
            }
            let count = Arc::clone(&count);
            Fate::Rewrite(Box::new(move |version, frame| {
                let lies = lies(api, version, frame);
                count.store(lies.len(), Ordering::SeqCst);
                if let Some(lie) = lies.into_iter().nth(number) {
                    *frame = lie;
                }
            }))
        }
    });
    let first = run(&liar);
    assert!(told.load(Ordering::SeqCst) > 0, "{what}: nobody asked");
    if let Err(error) = &first {
        assert_ne!(error.kind(), ErrorKind::Internal, "{what}: {error}");
        // The broker tells the truth by now.
        run(&liar).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    first
}

/// The whole frame, its length true, with each claim of its body in turn a lie.
fn lies(api: i16, version: i16, frame: &[u8]) -> Vec<Vec<u8>> {
    let known = klamm::internals::fuzzed::answers();
    let known = known.iter().find(|answers| answers.key == api).expect("an API");
    let (header, body) = frame.split_at(8 + usize::from((known.header)(version) > 0));
    let claims = claims_of_answer(api, version, body);
    let lies = told(body, &claims).map(|lie| {
        let mut frame = [header, &lie].concat();
        relength(&mut frame);
        frame
    });
    // Something is told, also where there is nothing to lie about.
    lies.chain([frame[..frame.len() - 1].to_vec()].map(|mut cut| {
        relength(&mut cut);
        cut
    }))
    .collect()
}

/// Those that the broker made by hand has.
fn versions(api: i16) -> (i16, i16) {
    match api {
        METADATA => (4, 12),
        LIST_OFFSETS => (2, 7),
        OFFSET_FOR_LEADER_EPOCH => (2, 4),
        FETCH => (4, 12),
        FIND_COORDINATOR => (1, 4),
        JOIN_GROUP => (0, 9),
        SYNC_GROUP => (0, 5),
        HEARTBEAT => (0, 4),
        LEAVE_GROUP => (0, 5),
        OFFSET_FETCH => (1, 8),
        OFFSET_COMMIT => (2, 8),
        INIT_PRODUCER_ID => (0, 4),
        PRODUCE => (3, 12),
        other => panic!("nobody asks {other}"),
    }
}

fn connected(liar: &Liar) -> Result<Client, Error> {
    patient(liar).connect()
}

fn patient(liar: &Liar) -> ClientBuilder {
    let (soon, later) = (Duration::from_millis(2), Duration::from_millis(20));
    Client::builder()
        .bootstrap(liar.bootstrap())
        .connect_timeout(Duration::from_secs(2))
        .request_timeout(Duration::from_secs(2))
        .unknown_topic_ttl(Duration::from_millis(300))
        .retry_backoff(soon, later)
        .reconnect_backoff(soon, later)
}

fn reads(liar: &Liar) -> Result<(), Error> {
    let client = connected(liar)?;
    let stream = client.reader().topics([TOPIC]).until_end().open()?;
    read(&stream, &mut stream.iter(), 0..30)
}

/// The partition is led in a new epoch when it has been read: what is read on must follow from that.
fn reads_on(liar: &Liar) -> Result<(), Error> {
    let client = patient(liar).metadata_max_age(Duration::from_millis(20)).connect()?;
    let stream = client.reader().topics([TOPIC]).open()?;
    let (end, asked) = (liar.end(), liar.asked(OFFSET_FOR_LEADER_EPOCH));
    let mut iter = stream.iter();
    read(&stream, &mut iter, 0..end)?;
    liar.elect();
    let begin = Instant::now();
    while liar.asked(OFFSET_FOR_LEADER_EPOCH) == asked {
        match iter.next_timeout(Duration::from_millis(5))? {
            Next::TimedOut => {}
            other => panic!("{other:?}: {:?}", stream.health()),
        }
        assert!(begin.elapsed() < LONG, "{:?}", stream.health());
    }
    liar.grow();
    read(&stream, &mut iter, end..end + 10)
}

/// These offsets of the log, or an error.
fn read(stream: &Stream, iter: &mut Iter<'_>, offsets: Range<i64>) -> Result<(), Error> {
    for offset in offsets {
        match iter.next_timeout(LONG)? {
            Next::Message(message) => {
                assert_eq!(message.offset(), offset);
                assert_eq!(message.value(), Some(format!("v{offset}").as_bytes()));
            }
            other => panic!("{other:?} instead of {offset}: {:?}", stream.health()),
        }
    }
    Ok(())
}

fn is_member(liar: &Liar) -> Result<(), Error> {
    let client = connected(liar)?;
    let stream = client
        .group("billing")
        .topics([TOPIC])
        .session_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(20))
        .commit_interval(Duration::from_millis(20))
        .join()?;
    let begin = Instant::now();
    let mut iter = stream.iter();
    // Once all is committed and a heartbeat was answered, everything was asked.
    while liar.committed(0) != Some(30) || liar.asked(HEARTBEAT) < 2 {
        match iter.next_timeout(Duration::from_millis(5))? {
            Next::Message(_) | Next::TimedOut => {}
            other => panic!("{other:?}: {:?}", stream.health()),
        }
        assert!(begin.elapsed() < LONG, "{:?}: {:?}", liar.committed(0), stream.health());
    }
    drop(iter);
    stream.close(LONG).map(drop)
}

fn writes(liar: &Liar) -> Result<(), Error> {
    let client = connected(liar)?;
    let producer = client.producer().delivery_timeout(Duration::from_secs(1)).build()?;
    let before = liar.written(0);
    let record = || Record::to(TOPIC).partition(0).value("a");
    let sent = producer.send(record()).and_then(|delivery| delivery.wait(LONG));
    let now = liar.written(0);
    match &sent {
        Ok(written) => assert_eq!((now, written.offset), (before + 1, Some(before))),
        Err(_) => assert!(now <= before + 1, "{now} and not {before}"),
    }
    producer.close(LONG)?;
    sent.map(drop)
}
