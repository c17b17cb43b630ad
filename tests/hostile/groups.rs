//! A coordinator that lies to a member of its group: whatever it says, the member asks again or says what is wrong, reads
//! on once it hears the truth, and can always be closed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        BrokerId,
        join_group_response::JoinGroupResponseMember,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{OffsetFetchResponsePartitions, OffsetFetchResponseTopics},
    },
    protocol::StrBytes,
};
use klamm::{Client, ErrorKind, Event, GroupBuilder, Health, Message, Next, Stream};

use crate::{
    LONG, MODEST, SHORT, allocating_at_most, impatient,
    liar::{
        Answer, Asked, FETCH, FIND_COORDINATOR, Fate, HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, Liar, MEMBER, OFFSET_COMMIT,
        OFFSET_FETCH, SYNC_GROUP, TOPIC, batches, topic_name,
    },
    tells, wait_until, within,
};

const ALL: [i16; 7] = [
    FIND_COORDINATOR,
    JOIN_GROUP,
    SYNC_GROUP,
    HEARTBEAT,
    OFFSET_FETCH,
    OFFSET_COMMIT,
    LEAVE_GROUP,
];

fn connected(liar: &Liar) -> Client {
    impatient(&liar.bootstrap()).connect().unwrap()
}

fn group(client: &Client) -> GroupBuilder {
    client
        .group("billing")
        .topics([TOPIC])
        .session_timeout(Duration::from_secs(10))
        .rebalance_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(50))
        .commit_interval(Duration::from_millis(50))
}

fn join(liar: &Liar) -> Stream {
    group(&connected(liar)).join().unwrap()
}

#[track_caller]
fn next(stream: &Stream) -> Message {
    match stream.iter().next_timeout(LONG) {
        Ok(Next::Message(message)) => {
            message.ack();
            message
        }
        other => panic!(
            "no message but {other:?}; health {:?}, events {:?}",
            stream.health(),
            events(stream)
        ),
    }
}

fn events(stream: &Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.events().try_next()).collect()
}

#[track_caller]
fn wait_for_trouble(stream: &Stream) -> klamm::Error {
    let events = stream.events();
    loop {
        match events.next_timeout(LONG) {
            Some(Event::GroupTrouble { error, .. } | Event::Lost { error, .. }) => return error,
            Some(_) => {}
            None => panic!("no trouble; health {:?}", stream.health()),
        }
    }
}

/// If there is one.
#[track_caller]
/// Whether there was one.
fn ack_one(stream: &Stream) -> bool {
    match stream.iter().next_timeout(Duration::from_millis(10)).unwrap() {
        Next::Message(message) => message.ack(),
        _ => false,
    }
}

#[track_caller]
fn close(stream: Stream) {
    within(LONG, || stream.close(SHORT * 5)).unwrap();
}

/// The error that ends the stream: once, then nothing.
#[track_caller]
fn end_of(stream: &Stream) -> klamm::Error {
    let mut iter = stream.iter();
    let error = loop {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => drop(message.ack()),
            Err(error) => break error,
            other => panic!("no error but {other:?}; health {:?}", stream.health()),
        }
    };
    assert!(matches!(iter.next_timeout(LONG), Ok(Next::Ended)));
    error
}

/// What it says is wrong by now.
fn problems(stream: &Stream) -> String {
    match stream.health() {
        Health::Unhealthy(problems) => problems.iter().map(|problem| format!("{}; ", problem.error)).collect(),
        _ => String::new(),
    }
}

/// Lies so often, to a member that is given time, and then tells the truth: all ten messages come, all are committed,
/// and the stream can be closed.
#[track_caller]
fn survives(api: i16, times: usize, lie: impl Fn(Asked, &mut Answer) -> Fate + Send + Sync + 'static) -> Vec<Event> {
    let liar = Liar::start(batches(1));
    liar.lie(api, lie);
    survives_liar(&liar, api, times)
}

#[track_caller]
fn survives_liar(liar: &Liar, api: i16, times: usize) -> Vec<Event> {
    let stream = allocating_at_most(MODEST, || {
        let stream = join(liar);
        let events = stream.events();
        let end = Instant::now() + LONG;
        while liar.asked(api) < times {
            if api == OFFSET_COMMIT {
                // Without messages nothing is committed.
                ack_one(&stream);
            }
            assert!(
                Instant::now() < end,
                "api {api} was asked {} times: {:?}, {:?}",
                liar.asked(api),
                stream.health(),
                std::iter::from_fn(|| events.try_next()).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        stream
    });
    liar.lie(api, |_, _| Fate::Send);
    let seen = events(&stream);
    goes_on(liar, &stream);
    close(stream);
    seen
}

/// Reads to the end of the topic, and commits that.
#[track_caller]
fn goes_on(liar: &Liar, stream: &Stream) {
    let mut iter = stream.iter();
    wait_until("all is read and committed", || {
        match iter.next_timeout(Duration::from_millis(20)) {
            Ok(Next::Message(_) | Next::TimedOut) => {}
            other => panic!("{other:?}"),
        }
        liar.committed(0) == Some(10)
    });
    wait_until("it is well", || stream.health().is_healthy());
}

// ---- frames ----

#[test]
fn counts_beyond_an_answer_are_not_believed() {
    for api in ALL {
        if api == HEARTBEAT {
            continue; // has no counts
        }
        for tail in [
            &[0xff, 0xff, 0xff, 0xff, 0x07][..],
            &[0x7f, 0xff, 0xff, 0xff],
            &[0xff; 40],
        ] {
            for head in [0, 4, 5, 8] {
                let bytes = [&vec![0; head][..], tail].concat();
                if api == LEAVE_GROUP {
                    let liar = Liar::start(batches(1));
                    let stream = join(&liar);
                    next(&stream);
                    liar.lie(api, move |_, answer| {
                        *answer = Answer::Bytes(bytes.clone());
                        Fate::Send
                    });
                    close(stream);
                    continue;
                }
                survives_or_says(api, 3, move |_, answer| {
                    *answer = Answer::Bytes(bytes.clone());
                    Fate::Send
                });
            }
        }
    }
}

/// As `survives`, unless the lie is one that ends a membership, such as an error code.
#[track_caller]
fn survives_or_says(api: i16, times: usize, lie: impl Fn(Asked, &mut Answer) -> Fate + Send + Sync + 'static) {
    let liar = Liar::start(batches(1));
    liar.lie(api, lie);
    let stream = join(&liar);
    let end = Instant::now() + LONG;
    let mut iter = stream.iter();
    loop {
        match iter.next_timeout(Duration::from_millis(5)) {
            Ok(Next::Ended) => panic!("it ended without a word"),
            Ok(_) => {}
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
                drop(iter);
                return close(stream);
            }
        }
        if liar.asked(api) >= times {
            break;
        }
        assert!(Instant::now() < end, "api {api}: {:?}", stream.health());
    }
    drop(iter);
    liar.lie(api, |_, _| Fate::Send);
    goes_on(&liar, &stream);
    close(stream);
}

#[test]
fn an_answer_to_another_request_ends_the_connection_and_no_more() {
    for api in ALL {
        if api == LEAVE_GROUP {
            continue;
        }
        survives(api, 3, |_, _| {
            Fate::Change(|frame| frame[4..8].copy_from_slice(&[0x7f; 4]))
        });
    }
}

#[test]
fn a_connection_that_ends_at_each_request_is_made_again() {
    for api in ALL {
        if api == LEAVE_GROUP {
            continue;
        }
        survives(api, 3, |_, _| Fate::Hangup);
    }
}

#[test]
fn every_single_byte_of_a_coordinator_s_answer_may_be_wrong() {
    let threads = ALL.map(|api| std::thread::spawn(move || every_single_byte(api)));
    for thread in threads {
        thread.join().unwrap();
    }
}

fn every_single_byte(api: i16) {
    const BYTES: [u8; 2] = [0xff, 0x01];
    // A goodbye that is not understood takes its second.
    let last = if api == LEAVE_GROUP { 24 } else { 45 * BYTES.len() };
    let liar = Liar::start(batches(1));
    liar.lie(api, |asked, _| {
        AT.set((8 + asked.count / BYTES.len(), BYTES[asked.count % BYTES.len()]));
        Fate::Change(|frame| {
            let (at, byte) = AT.get();
            if let Some(changed) = frame.get_mut(at) {
                *changed = byte;
            }
        })
    });
    let end = Instant::now() + LONG * 5;
    let client = connected(&liar);
    while liar.asked(api) < last {
        let stream = group(&client).session_timeout(Duration::from_secs(1)).join().unwrap();
        let mut iter = stream.iter();
        // Goodbyes need streams that end.
        let one = if api == LEAVE_GROUP { 1 } else { usize::MAX };
        let (mut asked, mut since) = (liar.asked(api), Instant::now());
        let mut got = 0;
        while asked < last && got < one {
            // What was believed is not asked again.
            if since.elapsed() > Duration::from_millis(500) {
                break;
            }
            if liar.asked(api) > asked {
                (asked, since) = (liar.asked(api), Instant::now());
            }
            match iter.next_timeout(Duration::from_millis(5)) {
                Ok(Next::Message(message)) => {
                    got += 1;
                    if message.offset() == 9 {
                        // So that there is something to read and to commit.
                        stream.commit(Duration::from_millis(100)).ok();
                        stream.seek((TOPIC, 0), klamm::StartAt::Earliest).ok();
                    }
                    drop(message);
                }
                Ok(Next::Ended) => break,
                // All was committed by another.
                Ok(_) if since.elapsed() > Duration::from_millis(200) => {
                    stream.seek((TOPIC, 0), klamm::StartAt::Earliest).ok();
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
                    assert!(!error.to_string().is_empty());
                    if error.topic().is_none() {
                        break;
                    }
                    stream.seek((TOPIC, 0), klamm::StartAt::Earliest).ok();
                }
            }
        }
        drop(iter);
        within(LONG, || stream.close(SHORT * 5)).unwrap();
        assert!(Instant::now() < end, "api {api} is at {} of {last}", liar.asked(api));
    }
    liar.lie(api, |_, _| Fate::Send);
    let stream = join(&liar);
    close(stream);
}

thread_local! {
    /// A function pointer carries nothing: which byte a broker's thread is to change.
    static AT: std::cell::Cell<(usize, u8)> = const { std::cell::Cell::new((0, 0)) };
}

// ---- silence ----

#[test]
fn silence_in_any_phase_is_waited_for_and_said() {
    let threads = [FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, OFFSET_FETCH, HEARTBEAT].map(|api| {
        std::thread::spawn(move || {
            let liar = Liar::start(batches(1));
            liar.lie(api, |_, _| Fate::Silence);
            let client = impatient(&liar.bootstrap())
                .request_timeout(Duration::from_millis(300))
                .connect()
                .unwrap();
            let stream = group(&client)
                .session_timeout(Duration::from_secs(1))
                .rebalance_timeout(Duration::from_secs(1))
                .join()
                .unwrap();
            wait_until("it is asked", || liar.asked(api) > 0);
            if api == SYNC_GROUP {
                // Who waits for a slow leader is heard of by the group, and says that it waits.
                wait_until("heartbeats go on", || liar.asked(HEARTBEAT) > 3);
                assert!(matches!(stream.health(), Health::Rebalancing), "{:?}", stream.health());
            } else {
                let said = format!("{:?}", wait_for_trouble(&stream));
                assert!(said.contains("answer") || said.contains("heard"), "{api}: {said}");
                wait_until("it tries again", || liar.asked(api) > 1);
            }
            // Closing does not wait for who is silent.
            within(LONG, || {
                let closer = stream.closer();
                closer.close();
                stream.close(SHORT).unwrap();
            });
            liar.lie(api, |_, _| Fate::Send);
            let stream = join(&liar);
            goes_on(&liar, &stream);
            close(stream);
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn silence_while_a_program_commits_or_closes_ends_with_its_timeout() {
    let liar = Liar::start(batches(1));
    let stream = group(&connected(&liar)).commit_interval(None).join().unwrap();
    next(&stream);
    liar.lie(OFFSET_COMMIT, |_, _| Fate::Silence);
    liar.lie(LEAVE_GROUP, |_, _| Fate::Silence);
    let error = within(LONG, || stream.commit(Duration::from_millis(300)).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    tells(&error, &["commit", "billing"]);
    let limit = Duration::from_secs(2);
    let report = within(limit * 5, || stream.close(limit)).unwrap();
    assert_eq!(report.uncommitted, [((TOPIC, 0).into(), 1)]);
    assert!(!report.left_group);
}

/// The group takes the partition away before the program has finished, and the commit of what it has is under way.
#[test]
fn a_close_in_the_midst_of_a_handover_reports_what_was_in_hand() {
    let liar = Liar::start(batches(1));
    let settings = group(&connected(&liar)).commit_interval(None);
    let stream = settings.revoke_timeout(Duration::from_millis(200)).join().unwrap();
    next(&stream);
    let Ok(Next::Message(in_hand)) = stream.iter().next_timeout(LONG) else {
        panic!("no second message; health {:?}", stream.health())
    };
    liar.lie(OFFSET_COMMIT, |_, _| Fate::Silence);
    liar.lie(HEARTBEAT, |_, answer| {
        let Answer::Heartbeat(answer) = answer else {
            panic!("a heartbeat")
        };
        answer.error_code = 27;
        Fate::Send
    });
    wait_until("what is done is being committed", || liar.asked(OFFSET_COMMIT) > 0);
    let report = within(LONG, || stream.close(SHORT)).unwrap();
    let partition = || (TOPIC, 0).into();
    assert_eq!(report.unfinished, [(partition(), 1)], "{report:?}");
    assert_eq!(report.uncommitted, [(partition(), 1)], "{report:?}");
    assert!(!in_hand.is_current() && !in_hand.ack());
}

#[test]
fn a_broker_that_is_silent_about_everything_does_not_hold_a_close_or_a_drop() {
    for is_dropped in [false, true] {
        let liar = Liar::start(batches(1));
        let stream = join(&liar);
        next(&stream);
        for api in ALL.into_iter().chain([FETCH]) {
            liar.lie(api, |_, _| Fate::Silence);
        }
        next(&stream);
        let begun = Instant::now();
        if is_dropped {
            drop(stream);
        } else {
            within(LONG, || stream.close(SHORT)).unwrap();
        }
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    }
}

// ---- who coordinates ----

#[test]
fn a_coordinator_that_cannot_be_is_looked_for_again() {
    for (host, port) in [
        ("", 9092),
        ("127.0.0.1", -1),
        ("127.0.0.1", 70_000),
        ("a b\0c", 1),
        ("127.0.0.1", 0),
    ] {
        survives(FIND_COORDINATOR, 3, move |_, answer| {
            let Answer::Coordinator(answer) = answer else {
                panic!("a coordinator")
            };
            answer.coordinators[0].host = StrBytes::from_static_str(host);
            answer.coordinators[0].port = port;
            Fate::Send
        });
    }
    survives(FIND_COORDINATOR, 3, |_, answer| {
        let Answer::Coordinator(answer) = answer else {
            panic!("a coordinator")
        };
        answer.coordinators.clear();
        Fate::Send
    });
    survives(FIND_COORDINATOR, 3, |_, answer| {
        let Answer::Coordinator(answer) = answer else {
            panic!("a coordinator")
        };
        answer.coordinators[0].node_id = BrokerId(-1);
        answer.coordinators[0].error_code = 15;
        Fate::Send
    });
}

/// Whoever says for ever that it is somebody else is asked as often as retrying may.
#[test]
fn a_coordinator_that_always_points_to_itself_is_not_asked_hot() {
    fn not_me(answer: &mut Answer) {
        const NOT_COORDINATOR: i16 = 16;
        match answer {
            Answer::Join(answer) => answer.error_code = NOT_COORDINATOR,
            Answer::Sync(answer) => answer.error_code = NOT_COORDINATOR,
            Answer::Heartbeat(answer) => answer.error_code = NOT_COORDINATOR,
            Answer::Committed(answer) => answer.groups[0].error_code = NOT_COORDINATOR,
            Answer::Commit(answer) => answer.topics[0].partitions[0].error_code = NOT_COORDINATOR,
            _ => panic!("another answer"),
        }
    }
    let threads = [JOIN_GROUP, SYNC_GROUP, HEARTBEAT, OFFSET_FETCH, OFFSET_COMMIT].map(|api| {
        std::thread::spawn(move || {
            let liar = Liar::start(batches(1));
            let stream = join(&liar);
            next(&stream);
            liar.lie(api, |_, answer| {
                not_me(answer);
                Fate::Send
            });
            if matches!(api, JOIN_GROUP | SYNC_GROUP | OFFSET_FETCH) {
                // They are asked anew in a new generation only.
                liar.lie(HEARTBEAT, |asked, answer| {
                    let Answer::Heartbeat(answer) = answer else {
                        panic!("a heartbeat")
                    };
                    answer.error_code = if asked.count % 40 == 0 { 27 } else { 0 };
                    Fate::Send
                });
            }
            wait_until("it is asked", || {
                // A seek makes an ack that is not committed yet meaningless.
                if !ack_one(&stream) {
                    stream.seek((TOPIC, 0), klamm::StartAt::Earliest).ok();
                }
                liar.asked(api) > 5
            });
            let (begun, before) = (Instant::now(), (liar.asked(api), liar.asked(FIND_COORDINATOR)));
            std::thread::sleep(Duration::from_secs(2));
            let after = (liar.asked(api), liar.asked(FIND_COORDINATOR));
            let (asked, found) = (after.0 - before.0, after.1 - before.1);
            println!(
                "api {api}: asked {asked} times in {:?}, looked for {found} times",
                begun.elapsed()
            );
            // Backoffs are from 10 to 100 ms, less a fifth; heartbeats each 50 ms.
            let most = usize::try_from(begun.elapsed().as_millis() / 20).unwrap() + 20;
            assert!(asked <= most && found <= most, "{api}: {asked} and {found} of {most}");
            assert!(!stream.health().is_healthy(), "{api}: {:?}", stream.health());
            liar.lie(api, |_, _| Fate::Send);
            liar.lie(HEARTBEAT, |_, _| Fate::Send);
            wait_until("it reads on", || {
                stream.seek((TOPIC, 0), klamm::StartAt::Earliest).ok();
                matches!(
                    stream.iter().next_timeout(Duration::from_millis(200)),
                    Ok(Next::Message(_))
                )
            });
            close(stream);
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_rebalance_with_every_heartbeat_gives_partitions_in_between_and_is_not_hot() {
    let liar = Liar::start(batches(1));
    liar.lie(HEARTBEAT, |_, answer| {
        let Answer::Heartbeat(answer) = answer else {
            panic!("a heartbeat")
        };
        answer.error_code = 27;
        Fate::Send
    });
    let stream = join(&liar);
    let begun = Instant::now();
    let mut iter = stream.iter();
    let mut offsets = Vec::new();
    while begun.elapsed() < Duration::from_secs(2) {
        if let Next::Message(message) = iter.next_timeout(Duration::from_millis(20)).unwrap() {
            offsets.push(message.offset());
        }
    }
    drop(iter);
    let joins = liar.asked(JOIN_GROUP);
    println!("{joins} joins in {:?}; read {offsets:?}", begun.elapsed());
    let most = usize::try_from(begun.elapsed().as_millis() / 20).unwrap() + 20;
    assert!((5..most).contains(&joins), "{joins} of {most}");
    assert_eq!(
        offsets,
        (0..10).collect::<Vec<_>>(),
        "each once: what is done is committed"
    );
    close(stream);
}

// ---- a place in the group ----

#[test]
fn a_place_without_generation_or_name_is_none() {
    let liar = Liar::start(batches(1));
    liar.lie(JOIN_GROUP, |_, answer| {
        let Answer::Join(answer) = answer else {
            panic!("a place")
        };
        answer.generation_id = -1;
        answer.error_code = 0;
        Fate::Send
    });
    survives_liar(&liar, JOIN_GROUP, 4);
    survives(JOIN_GROUP, 4, |_, answer| {
        let Answer::Join(answer) = answer else {
            panic!("a place")
        };
        answer.member_id = StrBytes::default();
        Fate::Send
    });
    survives(JOIN_GROUP, 4, |_, answer| {
        let Answer::Join(answer) = answer else {
            panic!("a place")
        };
        (answer.error_code, answer.member_id) = (0, StrBytes::default());
        Fate::Send
    });
}

#[test]
fn a_name_that_no_request_can_carry_is_no_panic() {
    for length in [200, 30_000, 40_000, 1 << 20] {
        for (heartbeat, join) in [(4, 9), (3, 9)] {
            let liar = Liar::start(batches(1));
            liar.speak(HEARTBEAT, 0, heartbeat);
            liar.speak(JOIN_GROUP, 0, join);
            liar.lie(JOIN_GROUP, move |_, answer| {
                let Answer::Join(answer) = answer else {
                    panic!("a place")
                };
                let name = StrBytes::from_string("m".repeat(length));
                answer.error_code = 0;
                answer.generation_id = 3;
                answer.leader = name.clone();
                answer.member_id = name;
                Fate::Send
            });
            let stream = self::join(&liar);
            let mut iter = stream.iter();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(500) {
                match iter.next_timeout(Duration::from_millis(20)) {
                    Ok(Next::Message(_) | Next::TimedOut) => {}
                    Err(error) => {
                        assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            drop(iter);
            close(stream);
        }
    }
}

#[test]
fn each_refusal_to_join_is_retried_or_ends_the_stream_with_a_reason() {
    // What is tried again; each ends when the truth is told.
    for code in [14, 15, 16, 22, 25, 27, 79] {
        survives(JOIN_GROUP, 4, move |asked, answer| {
            let Answer::Join(answer) = answer else {
                panic!("a place")
            };
            if asked.count > 0 {
                answer.error_code = code;
            }
            Fate::Send
        });
    }
    for (code, kind, parts) in [
        (81, ErrorKind::Refused, &["group.max.size"][..]),
        (
            26,
            ErrorKind::Refused,
            &[
                "session_timeout",
                "10s",
                "group.min.session.timeout.ms",
                "group.max.session.timeout.ms",
            ],
        ),
        (23, ErrorKind::Refused, &["assignors", "range", "roundrobin"]),
        (30, ErrorKind::Authorization, &["right", "group"]),
        (82, ErrorKind::Fenced, &["instance_id", "another member"]),
        (24, ErrorKind::Refused, &["name"]),
        (35, ErrorKind::Unsupported, &["JoinGroup"]),
        (12_345, ErrorKind::Refused, &["12345"]),
    ] {
        let liar = Liar::start(batches(1));
        liar.lie(JOIN_GROUP, move |_, answer| {
            let Answer::Join(answer) = answer else {
                panic!("a place")
            };
            answer.error_code = code;
            Fate::Send
        });
        let stream = join(&liar);
        let error = end_of(&stream);
        assert_eq!((error.kind(), error.code()), (kind, Some(code)), "{error}");
        tells(&error, parts);
        assert_eq!(liar.asked(JOIN_GROUP), 1, "not tried again");
        let health = problems(&stream);
        assert!(health.contains(&error.to_string()), "{health}");
        let commit = within(LONG, || stream.commit(SHORT));
        assert!(commit.is_err(), "nothing can be committed any more");
        close(stream);
    }
}

#[test]
fn a_member_that_the_group_has_given_up_joins_again_and_says_what_it_lost() {
    for (api, code) in [
        (HEARTBEAT, 25),
        (HEARTBEAT, 22),
        (OFFSET_COMMIT, 25),
        (OFFSET_COMMIT, 22),
    ] {
        let liar = Liar::start(batches(1));
        let stream = join(&liar);
        next(&stream);
        let before = liar.asked(api);
        liar.lie(api, move |asked, answer| {
            if asked.count < before + 2 {
                match answer {
                    Answer::Heartbeat(answer) => answer.error_code = code,
                    Answer::Commit(answer) => answer.topics[0].partitions[0].error_code = code,
                    _ => panic!("another answer"),
                }
            }
            Fate::Send
        });
        let mut seen = Vec::new();
        wait_until("it has lost the partition", || {
            ack_one(&stream);
            seen.extend(events(&stream));
            seen.iter().any(|event| matches!(event, Event::Lost { .. }))
        });
        let lost = seen.iter().find_map(|event| match event {
            Event::Lost { partition, error, .. } => Some((partition.clone(), error.clone())),
            _ => None,
        });
        let (partition, error) = lost.unwrap();
        assert_eq!(partition, (TOPIC, 0).into());
        tells(&error, &["group", "orders-0"]);
        goes_on(&liar, &stream);
        close(stream);
    }
}

#[test]
fn a_static_member_that_is_fenced_ends_with_that() {
    for api in [HEARTBEAT, OFFSET_COMMIT] {
        let liar = Liar::start(batches(1));
        let stream = group(&connected(&liar)).instance_id("one").join().unwrap();
        next(&stream);
        liar.lie(api, |_, answer| {
            match answer {
                Answer::Heartbeat(answer) => answer.error_code = 82,
                Answer::Commit(answer) => answer.topics[0].partitions[0].error_code = 82,
                _ => panic!("another answer"),
            }
            Fate::Send
        });
        let error = end_of(&stream);
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        tells(&error, &["instance_id", "\"one\""]);
        close(stream);
    }
}

#[test]
fn a_leader_that_chose_what_was_not_offered_is_not_followed() {
    survives(JOIN_GROUP, 4, |_, answer| {
        let Answer::Join(answer) = answer else {
            panic!("a place")
        };
        answer.protocol_name = Some(StrBytes::from_static_str("mine"));
        Fate::Send
    });
}

// ---- what others want, and what we get ----

fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.into()
}

fn assignment(topics: &[(&str, &[i32])]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for (topic, partitions) in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend(i32::try_from(partitions.len()).unwrap().to_be_bytes());
        for partition in *partitions {
            bytes.extend(partition.to_be_bytes());
        }
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

/// What no subscription or assignment is.
fn garbage() -> Vec<Bytes> {
    let mut bad = vec![
        vec![0],
        vec![0xff; 2],
        vec![0xff; 64],
        vec![0, 1, 0x7f, 0xff, 0xff, 0xff],
        vec![0, 1, 0xff, 0xff, 0xff, 0xff],
        vec![0, 1, 0, 0, 0, 1, 0x7f, 0xff],
        vec![0, 1, 0, 0, 0, 1, 0, 2, 0xff, 0xfe, 0, 0, 0, 0],
        vec![0, 1, 0, 0, 0, 1, 0x80, 0],
    ];
    bad.push([&[0, 1, 0, 0, 0, 1, 0, 6][..], b"orders", &[0x7f, 0xff, 0xff, 0xff]].concat());
    bad.into_iter().map(Bytes::from).collect()
}

/// We are the leader: who cannot be understood gets nothing, and the others all there is.
#[test]
fn subscriptions_of_others_may_be_garbage() {
    for bytes in garbage() {
        let liar = Liar::start(batches(1));
        liar.lie(JOIN_GROUP, move |_, answer| {
            let Answer::Join(answer) = answer else {
                panic!("a place")
            };
            if answer.error_code == 0 {
                let stranger = JoinGroupResponseMember::default()
                    .with_member_id(StrBytes::from_static_str("z stranger"))
                    .with_metadata(bytes.clone());
                answer.members.insert(0, stranger);
            }
            Fate::Send
        });
        let stream = allocating_at_most(MODEST, || {
            let stream = join(&liar);
            next(&stream);
            stream
        });
        if !stream.health().is_healthy() {
            let said = problems(&stream);
            assert!(said.contains("z stranger gets no partitions"), "{said}");
        }
        close(stream);
    }
}

#[test]
fn a_hundred_thousand_members_are_dealt_with() {
    let liar = Liar::start(batches(1));
    liar.lie(JOIN_GROUP, |_, answer| {
        let Answer::Join(answer) = answer else {
            panic!("a place")
        };
        if answer.error_code == 0 {
            answer.members.extend((0..100_000).map(|number| {
                JoinGroupResponseMember::default()
                    .with_member_id(StrBytes::from_string(format!("~{number}")))
                    .with_metadata(subscription(&[TOPIC]))
            }));
        }
        Fate::Send
    });
    let stream = join(&liar);
    // Names sort before "~": this member has the one partition there is.
    next(&stream);
    close(stream);
}

/// Neither our own name nor anybody else's need be among the members.
#[test]
fn a_list_of_members_without_us_is_no_panic() {
    for others in [0, 3] {
        let liar = Liar::start(batches(1));
        liar.lie(JOIN_GROUP, move |_, answer| {
            let Answer::Join(answer) = answer else {
                panic!("a place")
            };
            if answer.error_code == 0 {
                answer.members.clear();
                // One name, several times.
                answer.members.extend((0..others).map(|_| {
                    JoinGroupResponseMember::default()
                        .with_member_id(StrBytes::from_static_str("twin"))
                        .with_metadata(subscription(&[TOPIC, TOPIC, "unknown"]))
                }));
            }
            Fate::Send
        });
        let stream = join(&liar);
        wait_until("it has a place", || liar.asked(HEARTBEAT) > 3);
        assert_eq!(stream.assignment(), []);
        close(stream);
    }
}

#[test]
fn an_assignment_of_garbage_is_said_and_nothing_is_read() {
    for bytes in garbage() {
        let liar = Liar::start(batches(1));
        liar.lie(SYNC_GROUP, move |_, answer| {
            let Answer::Sync(answer) = answer else {
                panic!("an assignment")
            };
            answer.assignment = bytes.clone();
            Fate::Send
        });
        let stream = allocating_at_most(MODEST, || {
            let stream = join(&liar);
            wait_until("it has a place", || liar.asked(HEARTBEAT) > 3);
            stream
        });
        assert_eq!(stream.assignment(), []);
        let said = problems(&stream);
        assert!(said.contains("assignment"), "{said:?}");
        // The next generation may be better.
        liar.lie(SYNC_GROUP, |_, _| Fate::Send);
        rebalance(&liar);
        goes_on(&liar, &stream);
        close(stream);
    }
}

/// The next heartbeat asks for one.
fn rebalance(liar: &Liar) {
    let next = liar.asked(HEARTBEAT);
    liar.lie(HEARTBEAT, move |asked, answer| {
        let Answer::Heartbeat(answer) = answer else {
            panic!("a heartbeat")
        };
        // One may be under way.
        answer.error_code = if asked.count == next + 1 { 27 } else { 0 };
        Fate::Send
    });
}

#[test]
fn partitions_that_were_not_asked_for_are_not_read_and_said() {
    for strange in [
        assignment(&[(TOPIC, &[0]), ("payments", &[0, 1])]),
        assignment(&[(TOPIC, &[0, -1])]),
        assignment(&[(TOPIC, &[i32::MIN, 0])]),
        assignment(&[(TOPIC, &[0]), ("", &[0])]),
    ] {
        let liar = Liar::start(batches(1));
        liar.lie(SYNC_GROUP, move |_, answer| {
            let Answer::Sync(answer) = answer else {
                panic!("an assignment")
            };
            answer.assignment = strange.clone();
            Fate::Send
        });
        let stream = join(&liar);
        next(&stream);
        assert_eq!(stream.assignment(), [(TOPIC, 0).into()]);
        wait_until("it is said", || problems(&stream).contains("has not asked for"));
        close(stream);
    }
}

#[test]
fn partitions_that_do_not_exist_hold_up_no_other_and_are_said() {
    let strange: Vec<i32> = (0..300).chain([i32::MAX]).collect();
    let liar = Liar::start(batches(1));
    liar.lie(SYNC_GROUP, move |_, answer| {
        let Answer::Sync(answer) = answer else {
            panic!("an assignment")
        };
        answer.assignment = assignment(&[(TOPIC, &strange)]);
        Fate::Send
    });
    let stream = join(&liar);
    for _ in 0..10 {
        next(&stream);
    }
    wait_until("it is said", || {
        problems(&stream).contains("assigned orders-1, and 299 more")
    });
    stream.commit(SHORT * 5).unwrap();
    assert_eq!(liar.committed(0), Some(10));
    liar.lie(SYNC_GROUP, |_, _| Fate::Send);
    rebalance(&liar);
    wait_until("they are given back", || stream.assignment().len() == 1);
    wait_until("all is well", || stream.health().is_healthy());
    close(stream);
}

// ---- what is committed ----

#[test]
fn a_committed_offset_that_is_left_out_is_asked_for_until_it_is_known() {
    let seen = survives(OFFSET_FETCH, 4, |_, answer| {
        let Answer::Committed(answer) = answer else {
            panic!("offsets")
        };
        for group in &mut answer.groups {
            group.topics.clear();
        }
        Fate::Send
    });
    assert!(
        !seen.iter().any(|event| matches!(event, Event::Assigned { .. })),
        "not knowing is no reason to begin anywhere: {seen:?}"
    );
    // Strangers are no answer either.
    survives(OFFSET_FETCH, 4, |_, answer| {
        let Answer::Committed(answer) = answer else {
            panic!("offsets")
        };
        let stranger = |name, index| {
            OffsetFetchResponseTopics::default()
                .with_name(topic_name(name))
                .with_partitions(vec![
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(7),
                ])
        };
        answer.groups[0].topics = vec![stranger("payments", 0), stranger(TOPIC, 1), stranger(TOPIC, -1)];
        Fate::Send
    });
    survives(OFFSET_FETCH, 4, |_, answer| {
        let Answer::Committed(answer) = answer else {
            panic!("offsets")
        };
        answer.groups.clear();
        Fate::Send
    });
}

#[test]
fn not_knowing_what_is_committed_is_said_for_as_long_as_it_lasts() {
    for code in [-1, 14, 88] {
        let liar = Liar::start(batches(1));
        liar.lie(OFFSET_FETCH, move |_, answer| {
            let Answer::Committed(answer) = answer else {
                panic!("offsets")
            };
            answer.groups[0].topics[0].partitions[0].error_code = code;
            Fate::Send
        });
        let stream = join(&liar);
        wait_until("it is said", || problems(&stream).contains("OffsetFetch"));
        let seen = events(&stream);
        assert!(
            seen.iter().any(|event| matches!(event, Event::GroupTrouble { .. })),
            "{code}: {seen:?}"
        );
        liar.lie(OFFSET_FETCH, |_, _| Fate::Send);
        goes_on(&liar, &stream);
        close(stream);
    }
}

#[test]
fn committed_offsets_that_cannot_be_are_none_or_out_of_range() {
    for offset in [-2, i64::MIN, -1] {
        let liar = Liar::start(batches(1));
        liar.lie(OFFSET_FETCH, move |_, answer| {
            let Answer::Committed(answer) = answer else {
                panic!("offsets")
            };
            answer.groups[0].topics[0].partitions[0].committed_offset = offset;
            Fate::Send
        });
        let stream = join(&liar);
        assert_eq!(next(&stream).offset(), 0);
        close(stream);
    }
    for offset in [11, i64::MAX] {
        let liar = Liar::start(batches(1));
        liar.lie(OFFSET_FETCH, move |_, answer| {
            let Answer::Committed(answer) = answer else {
                panic!("offsets")
            };
            answer.groups[0].topics[0].partitions[0].committed_offset = offset;
            Fate::Send
        });
        let stream = join(&liar);
        let mut seen = Vec::new();
        wait_until("reading goes on at the end", || {
            seen.extend(events(&stream));
            seen.iter()
                .any(|event| matches!(event, Event::OffsetReset { from, to: 10, .. } if *from == offset))
        });
        close(stream);
    }
}

#[test]
fn a_topic_that_may_not_be_described_fails_its_partitions_and_no_others() {
    let liar = Liar::start(batches(1));
    liar.set_partitions(2);
    liar.lie(OFFSET_FETCH, |_, answer| {
        let Answer::Committed(answer) = answer else {
            panic!("offsets")
        };
        for partition in &mut answer.groups[0].topics[0].partitions {
            partition.error_code = if partition.partition_index == 1 { 29 } else { 0 };
        }
        Fate::Send
    });
    let stream = join(&liar);
    let mut iter = stream.iter();
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    wait_until("one partition is read, and the other one's error was given", || {
        match iter.next_timeout(Duration::from_millis(20)) {
            Ok(Next::Message(message)) => read.push(message.offset()),
            Ok(Next::TimedOut) => {}
            Err(error) => errors.push(error),
            other => panic!("{other:?}"),
        }
        read.len() == 10 && !errors.is_empty() && liar.committed(0) == Some(10)
    });
    drop(iter);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].kind(), ErrorKind::Authorization);
    tells(&errors[0], &["orders-1", "OffsetFetch"]);
    assert!(problems(&stream).contains("orders-1"));
    assert_eq!(liar.committed(1), None);
    // The program may begin anywhere by itself.
    stream.seek((TOPIC, 1), klamm::StartAt::Earliest).unwrap();
    wait_until("all is well", || stream.health().is_healthy());
    assert_eq!(stream.position([(TOPIC, 1)]).unwrap()[&(TOPIC, 1).into()], 0);
    close(stream);
}

#[test]
fn a_commit_that_is_answered_for_strangers_is_a_commit_that_failed() {
    let liar = Liar::start(batches(1));
    let stream = group(&connected(&liar)).commit_interval(None).join().unwrap();
    next(&stream);
    for strangers in [vec![], vec![("payments", 0)], vec![(TOPIC, 1), (TOPIC, -1)]] {
        liar.lie(OFFSET_COMMIT, move |_, answer| {
            let Answer::Commit(answer) = answer else {
                panic!("a commit")
            };
            answer.topics = strangers
                .iter()
                .map(|&(name, index)| {
                    OffsetCommitResponseTopic::default()
                        .with_name(topic_name(name))
                        .with_partitions(vec![
                            OffsetCommitResponsePartition::default().with_partition_index(index),
                        ])
                })
                .collect();
            Fate::Send
        });
        let error = within(LONG, || stream.commit(SHORT * 5).unwrap_err());
        tells(&error, &["orders-0", "OffsetCommit"]);
    }
    assert!(
        events(&stream)
            .iter()
            .any(|event| matches!(event, Event::CommitFailed { .. }))
    );
    liar.lie(OFFSET_COMMIT, |_, _| Fate::Send);
    stream.commit(SHORT * 5).unwrap();
    close(stream);
}

#[test]
fn a_commit_that_has_to_wait_says_so_for_as_long_as_it_lasts() {
    let liar = Liar::start(batches(1));
    let stream = group(&connected(&liar)).commit_interval(None).join().unwrap();
    next(&stream);
    liar.lie(OFFSET_COMMIT, |_, answer| {
        let Answer::Commit(answer) = answer else {
            panic!("a commit")
        };
        for topic in &mut answer.topics {
            topic
                .partitions
                .iter_mut()
                .for_each(|partition| partition.error_code = 14);
        }
        Fate::Send
    });
    let error = within(LONG, || stream.commit(SHORT).unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::TimedOut, Some(14)), "{error}");
    tells(&error, &["commit", "billing", "OffsetCommit"]);
    assert!(problems(&stream).contains("OffsetCommit"), "{:?}", stream.health());
    let told = |event: &Event| matches!(event, Event::GroupTrouble { error, .. } if error.code() == Some(14));
    assert_eq!(events(&stream).iter().filter(|event| told(event)).count(), 1);
    liar.lie(OFFSET_COMMIT, |_, _| Fate::Send);
    stream.commit(LONG).unwrap();
    wait_until("it is well", || stream.health().is_healthy());
    assert_eq!(liar.committed(0), Some(1));
    close(stream);
}

// ---- brokers of another age ----

#[test]
fn a_broker_that_does_not_know_an_api_is_named_as_such() {
    for (api, name) in [
        (FIND_COORDINATOR, "FindCoordinator"),
        (JOIN_GROUP, "JoinGroup"),
        (SYNC_GROUP, "SyncGroup"),
        (HEARTBEAT, "Heartbeat"),
        (OFFSET_FETCH, "OffsetFetch"),
        (OFFSET_COMMIT, "OffsetCommit"),
    ] {
        let liar = Liar::start(batches(1));
        liar.do_not_speak(api);
        let stream = join(&liar);
        let error = end_of(&stream);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        tells(&error, &[name]);
        close(stream);
    }
    let liar = Liar::start(batches(1));
    liar.do_not_speak(LEAVE_GROUP);
    let stream = join(&liar);
    next(&stream);
    let report = within(LONG, || stream.close(SHORT * 5)).unwrap();
    assert!(!report.left_group);
}

#[test]
fn the_oldest_and_the_newest_versions_of_each_api_work() {
    let oldest = [
        (FIND_COORDINATOR, 1),
        (JOIN_GROUP, 0),
        (SYNC_GROUP, 0),
        (HEARTBEAT, 0),
        (LEAVE_GROUP, 0),
        (OFFSET_FETCH, 1),
        (OFFSET_COMMIT, 2),
    ];
    let newest = [
        (FIND_COORDINATOR, 4),
        (JOIN_GROUP, 9),
        (SYNC_GROUP, 5),
        (HEARTBEAT, 4),
        (LEAVE_GROUP, 5),
        (OFFSET_FETCH, 8),
        (OFFSET_COMMIT, 8),
    ];
    // Kafka 2.1, about.
    let middle = [
        (FIND_COORDINATOR, 2),
        (JOIN_GROUP, 3),
        (SYNC_GROUP, 2),
        (HEARTBEAT, 2),
        (LEAVE_GROUP, 2),
        (OFFSET_FETCH, 5),
        (OFFSET_COMMIT, 6),
    ];
    for versions in [oldest, middle, newest] {
        let liar = Liar::start(batches(1));
        for (api, version) in versions {
            liar.speak(api, version, version);
        }
        let stream = join(&liar);
        goes_on(&liar, &stream);
        let report = stream.close(SHORT * 5).unwrap();
        assert!(report.left_group);
        let stream = join(&liar);
        let events = stream.events();
        wait_until("it goes on where the other stopped", || {
            matches!(events.try_next(), Some(Event::Assigned { position: 10, .. }))
        });
        close(stream);
    }
    assert!(MEMBER.len() < 10);
}
