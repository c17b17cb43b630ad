//! What a group costs: memory while a program is slow or nobody reads events, idle partitions, and what is left behind.

use std::time::{Duration, Instant};

use klamm::{AckMode, Client, Event, GroupBuilder, Health, Message, Next, Stream};

use super::acks::{LONG, committed, member, next, nothing, offsets, take, topic};
use crate::support::{self, ALONE, Kafka, is_long, klamm_threads, memory, shared, sockets, unique, wait_until};

fn explicit(builder: GroupBuilder) -> GroupBuilder {
    builder.ack_mode(AckMode::Explicit)
}

// ---- in a process of its own ----

/// Runs this very test again in a process of its own, in which this returns the address of a broker and what was made.
fn alone(test: &str, make: impl FnOnce() -> String) -> Option<(String, String)> {
    let given = match std::env::var_os(ALONE) {
        Some(_) => String::new(),
        None => format!("{} {}", shared().bootstrap(), make()),
    };
    let given = support::alone(&format!("groups::memory::{test}"), &given)?;
    let (bootstrap, rest) = given.split_once(' ').expect("an address and a name");
    Some((bootstrap.to_owned(), rest.to_owned()))
}

fn threads() -> usize {
    klamm_threads().len()
}

/// Of this process, so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells of time");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn join(bootstrap: &str, group: &str, topic: &str) -> GroupBuilder {
    let client = Client::connect(bootstrap).unwrap();
    let builder = client.group(group).topics([topic]);
    builder
        .heartbeat_interval(Duration::from_millis(100))
        .session_timeout(Duration::from_secs(30))
}

// ---- memory ----

const TOTAL: usize = 32 << 20;
const FIXED: usize = 16 << 20;
const THREAD: usize = 32 << 10;
/// Half of the default, so that twelve partitions in hand are no more than the total.
const WINDOW: usize = 2 << 20;

/// Reads slowly, in three ways: a loop, one that keeps all it is given until nothing more comes, and one that acks that.
fn within_the_bound(what: &str, bootstrap: &str, topic: &str, partitions: usize, batch: usize) {
    let before = memory("VmRSS");
    let builder = join(bootstrap, &unique("group"), topic);
    let stream = explicit(builder)
        .prefetch_total_bytes(TOTAL)
        .prefetch_bytes(WINDOW)
        .join()
        .unwrap();
    let mut iter = stream.iter();
    let mut resident = 0;
    let look = |resident: &mut usize| *resident = (*resident).max(memory("VmRSS"));
    for _ in 0..30 {
        assert!(next(&mut iter).ack());
        std::thread::sleep(Duration::from_millis(20));
        look(&mut resident);
    }
    // What comes is released by nobody: each partition gives what its window holds, and no more.
    let mut kept: Vec<Message> = Vec::new();
    let mut bytes = 0;
    let mut quiet = 0;
    while quiet < 10 {
        match iter.next_timeout(Duration::from_millis(200)).unwrap() {
            Next::Message(message) => {
                bytes += message.value().map_or(0, <[u8]>::len);
                kept.push(message);
                quiet = 0;
            }
            Next::TimedOut => quiet += 1,
            other => panic!("{other:?}"),
        }
        look(&mut resident);
    }
    let in_hand = partitions * (WINDOW + 2 * batch);
    let handles = kept.capacity() * size_of::<Message>();
    let peak = stream.prefetch_peak();
    let bound = TOTAL + partitions * batch;
    let most = bound + in_hand + handles + FIXED + partitions * THREAD;
    println!(
        "{what}: {} messages in hand, {} KiB of {} KiB; prefetched {} KiB of {} KiB, resident {} KiB of {} KiB",
        kept.len(),
        bytes >> 10,
        in_hand >> 10,
        peak >> 10,
        bound >> 10,
        (resident - before) >> 10,
        most >> 10,
    );
    assert!(bytes <= in_hand, "{what}: {bytes} bytes in hand, {in_hand} at most");
    assert!(peak <= bound, "{what}: {peak} prefetched, {bound} at most");
    assert!(
        resident - before <= most,
        "{what}: {} resident, {most} at most",
        resident - before
    );
    // An ack of all lets it go on.
    let count = kept.len();
    assert!(kept.drain(..).all(|message| message.ack()));
    for _ in 0..count.min(50) {
        assert!(next(&mut iter).ack());
    }
    drop(iter);
    stream.close(LONG).unwrap();
}

#[test]
fn a_slow_program_with_records_of_a_megabyte_stays_within_the_bound() {
    let given = alone(
        "a_slow_program_with_records_of_a_megabyte_stays_within_the_bound",
        || {
            let topic = topic(12, 0);
            shared().fill(&topic, 12, 200, "none", 1_000_000);
            topic
        },
    );
    if let Some((bootstrap, topic)) = given {
        within_the_bound("records of 1 MB", &bootstrap, &topic, 12, 1_000_200);
    }
}

#[test]
fn a_slow_program_with_records_of_ten_bytes_stays_within_the_bound() {
    let given = alone(
        "a_slow_program_with_records_of_ten_bytes_stays_within_the_bound",
        || {
            let topic = topic(2, 0);
            for round in 0..10 {
                shared().fill_from(round * 50_000, &topic, 2, 100_000, "none", 10);
            }
            topic
        },
    );
    if let Some((bootstrap, topic)) = given {
        within_the_bound("records of 10 bytes", &bootstrap, &topic, 2, 140_000);
    }
}

/// Events are kept, and never read; then the handle is dropped.
#[test]
fn a_hundred_rebalances_that_nobody_reads_of_take_no_memory() {
    let given = alone("a_hundred_rebalances_that_nobody_reads_of_take_no_memory", || {
        topic(8, 0)
    });
    let Some((bootstrap, topic)) = given else { return };
    let rebalances = if is_long() { 100 } else { 12 };
    let group = unique("group");
    let stay = join(&bootstrap, &group, &topic).join().unwrap();
    let mut events = Some(stay.events());
    let client = Client::connect(&bootstrap).unwrap();
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| stay.iter().for_each(|message| drop(message.unwrap())));
        wait_until("all partitions", LONG, || stay.assignment().len() == 8);
        let mut early = 0;
        for round in 0..rebalances / 2 {
            let visitor = client.group(&group).topics([&topic]).join().unwrap();
            wait_until("half of them", LONG, || {
                stay.assignment().len() == 4 && visitor.assignment().len() == 4
            });
            visitor.close(LONG).unwrap();
            wait_until("all of them again", LONG, || stay.assignment().len() == 8);
            if round == 3 {
                early = memory("VmRSS");
            }
            if round == rebalances / 4 {
                events = None;
            }
        }
        let late = memory("VmRSS");
        println!(
            "{rebalances} rebalances: {} KiB, {} KiB at first",
            late >> 10,
            early >> 10
        );
        assert!(late < early + (6 << 20), "{late} bytes, {early} at first");
        assert!(events.is_none());
        stay.closer().close();
        looping.join().unwrap();
    });
    let begun = Instant::now();
    stay.close(LONG).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

// ---- leaks, idling ----

#[test]
fn a_hundred_members_leave_no_thread_and_no_descriptor() {
    let given = alone("a_hundred_members_leave_no_thread_and_no_descriptor", || topic(5, 100));
    let Some((bootstrap, topic)) = given else { return };
    let rounds = if is_long() { 100 } else { 20 };
    let before = sockets();
    assert_eq!(threads(), 0);
    let client = Client::connect(&bootstrap).unwrap();
    client.partitions(&topic).unwrap();
    let with_client = (threads(), sockets());
    let mut most = 0;
    for round in 0..rounds {
        let stream = client.group(unique("group")).topics([&topic]).join().unwrap();
        match round % 5 {
            0 => {} // closed while it joins
            1 => drop(next(&mut stream.iter())),
            2 => drop(take(&mut stream.iter(), 100)),
            3 => stream.closer().close(),
            _ => {
                drop(next(&mut stream.iter()));
                stream.commit(LONG).unwrap();
            }
        }
        if round % 2 == 0 {
            stream.close(LONG).unwrap();
        } else {
            drop(stream);
        }
        wait_until("the threads have ended", LONG, || threads() <= with_client.0 + 1);
        most = most.max(sockets());
    }
    println!(
        "{rounds} members: at most {most} sockets, {} with the client alone",
        with_client.1
    );
    // The client's own connection for questions to the coordinator may have come.
    assert!(most <= with_client.1 + 2, "{most} sockets, {} before", with_client.1);
    drop(client);
    wait_until("nothing is left", LONG, || threads() == 0 && sockets() <= before);
}

#[test]
fn idle_partitions_and_members_without_partitions_cost_nothing() {
    let given = alone("idle_partitions_and_members_without_partitions_cost_nothing", || {
        topic(200, 0)
    });
    let Some((bootstrap, topic)) = given else { return };
    let time = if is_long() { 60 } else { 6 };
    let group = unique("group");
    let client = Client::connect(&bootstrap).unwrap();
    let build = |group: &str| client.group(group).topics([&topic]).join().unwrap();
    let busy = build(&group);
    wait_until("all partitions", LONG, || busy.assignment().len() == 200);
    // One partition for two members of another group: one of them has none.
    let small = unique("small");
    client
        .admin()
        .create_topics([klamm::NewTopic::new(&small, 1, 1)])
        .unwrap()
        .all()
        .unwrap();
    let group = unique("group");
    let pair = [(); 2].map(|()| client.group(&group).topics([&small]).join().unwrap());
    wait_until("one has it", LONG, || {
        let has: usize = pair.iter().map(|stream| stream.assignment().len()).sum();
        has == 1 && pair.iter().all(|stream| stream.health().is_healthy())
    });
    std::thread::scope(|scope| {
        let waiting: Vec<_> = [&busy, &pair[0], &pair[1]]
            .into_iter()
            .map(|stream: &Stream| scope.spawn(|| stream.iter().next().is_none()))
            .collect();
        // Until everything has settled.
        std::thread::sleep(Duration::from_secs(2));
        let (begun, spent) = (Instant::now(), cpu());
        std::thread::sleep(Duration::from_secs(time));
        let spent = cpu() - spent;
        println!("{spent:?} of CPU in {:?}, {} sockets", begun.elapsed(), sockets());
        // A tenth of a core would be a loop.
        assert!(
            spent < begun.elapsed() / 20,
            "{spent:?} of CPU in {:?}",
            begun.elapsed()
        );
        for stream in [&busy, &pair[0], &pair[1]] {
            assert!(stream.health().is_healthy(), "{:?}", stream.health());
            stream.closer().close();
        }
        for thread in waiting {
            assert!(
                thread.join().unwrap(),
                "an iterator without partitions waits, and ends with None"
            );
        }
    });
}

// ---- one message ----

#[test]
fn offset_zero_is_an_offset_like_any_other() {
    let topic = topic(1, 0);
    shared().java_writes(&topic, 0, &["the only one"]);
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        let group = unique("group");
        let build = || member(shared(), &group, &topic).ack_mode(mode).join().unwrap();
        let stream = build();
        let mut iter = stream.iter();
        let message = next(&mut iter);
        assert_eq!(message.offset(), 0);
        assert!(mode == AckMode::OnNext || message.ack());
        drop(message);
        nothing(&mut iter);
        stream.commit(LONG).unwrap();
        assert_eq!(committed(shared(), &group, &topic, 0), Some(1), "{mode:?}");
        assert_eq!(stream.committed([(&topic, 0)]).unwrap()[&(&topic, 0).into()], 1);
        assert_eq!(stream.lag().unwrap()[&(&topic, 0).into()], 0);
        drop(iter);
        stream.close(LONG).unwrap();
        let stream = build();
        let mut iter = stream.iter();
        wait_until("an assignment", LONG, || stream.assignment().len() == 1);
        assert_eq!(stream.position([(&topic, 0)]).unwrap()[&(&topic, 0).into()], 1);
        nothing(&mut iter);
        assert_eq!(stream.lag().unwrap()[&(&topic, 0).into()], 0);
        assert_eq!(shared().describe_group(&group)[0].lag, Some(0), "{mode:?}");
    }
}

/// One message takes far longer than the session timeout, while others of its partition are done.
#[test]
fn a_message_that_takes_long_stalls_the_window_at_its_bound_and_costs_nothing_else() {
    const WINDOW: usize = 50;
    let session = Duration::from_secs(2);
    let kafka: &Kafka = shared();
    let topic = topic(1, 500);
    let group = unique("group");
    let stream = explicit(member(kafka, &group, &topic))
        .session_timeout(session)
        .prefetch_count(WINDOW)
        .stall_after(Duration::from_secs(1))
        .join()
        .unwrap();
    let mut iter = stream.iter();
    let long = next(&mut iter);
    assert_eq!(long.offset(), 0);
    let begun = Instant::now();
    let mut others = Vec::new();
    // Acked at once: only one is unfinished. Then none is: the window is full.
    for _ in 0..200 {
        let message = next(&mut iter);
        assert!(message.ack());
    }
    while let Next::Message(message) = iter.next_timeout(Duration::from_secs(1)).unwrap() {
        others.push(message);
    }
    assert_eq!(offsets(&others), (201..201 + WINDOW as i64 - 1).collect::<Vec<_>>());
    while begun.elapsed() < session * 3 {
        nothing(&mut iter);
    }
    let Health::Unhealthy(problems) = stream.health() else {
        panic!("a stall shows in health");
    };
    let told = problems
        .iter()
        .find(|problem| problem.error.to_string().contains("acked is 0"));
    assert!(
        told.is_some_and(|problem| problem.age >= Duration::from_secs(1)),
        "{problems:?}"
    );
    let events: Vec<Event> = std::iter::from_fn(|| stream.events().try_next()).collect();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Stalled { oldest: 0, .. })),
        "{events:?}"
    );
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Lost { .. } | Event::RebalanceStarted)),
        "nobody was evicted: {events:?}"
    );
    assert!(long.is_current());
    assert!(others.iter().all(Message::ack));
    stream.commit(LONG).unwrap();
    assert_eq!(committed(kafka, &group, &topic, 0), None, "the oldest holds the commit");
    assert!(long.ack());
    stream.commit(LONG).unwrap();
    assert_eq!(committed(kafka, &group, &topic, 0), Some(250));
    assert_eq!(next(&mut iter).offset(), 250);
}
