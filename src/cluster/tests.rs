//! Clusters of scripted brokers.

use std::{
    sync::atomic::{AtomicBool, AtomicI32, AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_protocol::{
    messages::{
        BrokerId, CreateTopicsRequest, FindCoordinatorRequest, FindCoordinatorResponse, ListOffsetsRequest,
        ListOffsetsResponse, MetadataRequest, MetadataResponse,
        create_topics_request::CreatableTopic,
        find_coordinator_response::Coordinator as Found,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};

use super::*;
use crate::{
    cluster::offsets::topic_name,
    net::{
        scripted::{self, Asked},
        tests::wait_until,
    },
    offset::Isolation,
};

/// Longer than any test takes, unless it fails.
fn long() -> Deadline {
    Deadline::after(Duration::from_secs(60), "the test's limit")
}

fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(400), "the caller's limit")
}

/// Retries at once, so that tests need not wait.
fn config(bootstrap: &[&Address]) -> ClusterConfig {
    let quick = Backoff {
        min: Duration::from_millis(1),
        max: Duration::from_millis(2),
    };
    ClusterConfig {
        bootstrap: bootstrap.iter().map(|address| (*address).clone()).collect(),
        retry_backoff: quick,
        reconnect_backoff: quick,
        unknown_topic_ttl: Duration::from_millis(20),
        ..ClusterConfig::default()
    }
}

/// An address where nobody listens.
fn nobody() -> Address {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Address::new("127.0.0.1", listener.local_addr().unwrap().port())
}

/// What a broker knows: the brokers, and the topic `t` with one partition, its leader and the leader's epoch.
fn metadata(brokers: &[(i32, &Address)], leader: i32, epoch: i32) -> MetadataResponse {
    let brokers = brokers.iter().map(|(id, address)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(StrBytes::from_string(address.host.clone()))
            .with_port(i32::from(address.port))
    });
    let partition = MetadataResponsePartition::default()
        .with_leader_id(BrokerId(leader))
        .with_leader_epoch(epoch);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(topic_name("t")))
        .with_partitions(vec![partition]);
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_topics(vec![topic])
}

fn is_metadata(asked: &Asked) -> bool {
    asked.key == 3
}

/// An answer about `t`-0.
fn listed(asked: &Asked, code: i16, offset: i64) -> Bytes {
    let partition = ListOffsetsPartitionResponse::default()
        .with_error_code(code)
        .with_offset(offset);
    let topic = ListOffsetsTopicResponse::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    asked.answer::<ListOffsetsRequest>(&ListOffsetsResponse::default().with_topics(vec![topic]))
}

fn end_of_t(cluster: &Cluster, deadline: &Deadline) -> Result<i64> {
    let listed = cluster.list_offset("t", 0, ListAt::Latest, Isolation::ReadCommitted, deadline)?;
    Ok(listed.expect("a partition has an end").offset)
}

/// A broker that knows only itself, leads `t`-0, and has its end at 42.
fn lone(asked: &Asked, port: i32) -> Bytes {
    if is_metadata(asked) {
        let address = Address::new("127.0.0.1", u16::try_from(port).unwrap());
        return asked.answer::<MetadataRequest>(&metadata(&[(1, &address)], 1, 0));
    }
    listed(asked, 0, 42)
}

/// Starts a broker whose script needs to know its port.
fn start_with_port(script: impl Fn(&Asked, i32) -> Option<Bytes> + Send + Sync + 'static) -> scripted::Broker {
    let port = Arc::new(AtomicI32::new(0));
    let broker = scripted::Broker::serve({
        let port = Arc::clone(&port);
        move |asked| script(asked, port.load(Ordering::SeqCst))
    });
    port.store(i32::from(broker.address.port), Ordering::SeqCst);
    broker
}

#[test]
fn a_cluster_out_of_reach_names_every_address_and_why() {
    let refused = nobody();
    let stranger = scripted::Broker::start(|mut peer| {
        peer.request();
        peer.send(b"HTTP/1.1 400 Bad Request\r\n");
        peer.wait_for_end();
    });
    let error = Cluster::connect(config(&[&refused, &stranger.address])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach any bootstrap server: {refused}: connection refused; {}: the port speaks HTTP, not Kafka's \
             protocol",
            stranger.address
        )
    );
}

#[test]
fn one_broker_that_answers_is_enough() {
    let broker = start_with_port(|asked, port| Some(lone(asked, port)));
    let stalled = scripted::Broker::start(|mut peer| peer.wait_for_end());
    let (one, other) = (nobody(), nobody());
    let config = ClusterConfig {
        connect_timeout: Duration::from_secs(1),
        ..config(&[&one, &stalled.address, &broker.address, &other])
    };
    let cluster = Cluster::connect(config).unwrap();
    assert_eq!(cluster.metadata().brokers[&1].address(), broker.address);
    assert_eq!(cluster.broker_address(1), Some(broker.address.clone()));
    assert_eq!(end_of_t(&cluster, &long()).unwrap(), 42);
}

#[test]
fn what_no_retry_can_help_against_is_told_at_once() {
    let stranger = scripted::Broker::start(|mut peer| {
        peer.request();
        peer.send(&[0x15, 0x03, 0x03, 0, 2, 2, 80]);
        peer.wait_for_end();
    });
    let cluster = Cluster::connect_lazy(config(&[&stranger.address]));
    let error = cluster.topic("t", &long()).unwrap_err();
    assert!(error.to_string().contains("speaks TLS"), "{error}");
    assert!(!error.is_retriable());
}

#[test]
fn a_lazy_client_keeps_trying_until_its_deadline() {
    let cluster = Cluster::connect_lazy(config(&[&nobody()]));
    let error = cluster.topic("t", &briefly()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[test]
fn a_connection_closed_while_idle_is_made_anew_unseen() {
    let ports = Arc::new(AtomicI32::new(0));
    let (go, wait) = bounded::<()>(0);
    let broker = scripted::Broker::start({
        let ports = Arc::clone(&ports);
        move |mut peer| {
            peer.introduce();
            while let Some(asked) = peer.request() {
                peer.send(&lone(&asked, ports.load(Ordering::SeqCst)));
                if peer.number == 0 && !is_metadata(&asked) {
                    wait.recv().unwrap();
                    return;
                }
            }
        }
    });
    ports.store(i32::from(broker.address.port), Ordering::SeqCst);
    let cluster = Cluster::connect(config(&[&broker.address])).unwrap();
    assert_eq!(end_of_t(&cluster, &long()).unwrap(), 42);
    let connection = cluster.connection(1, Purpose::Control, &long()).unwrap();
    go.send(()).unwrap();
    wait_until(|| connection.is_dead());
    assert_eq!(end_of_t(&cluster, &long()).unwrap(), 42);
    assert_eq!(broker.accepted(), 2);
}

#[test]
fn what_was_sent_and_not_answered_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let broker = scripted::Broker::serve({
        let requests = Arc::clone(&requests);
        move |asked| {
            assert_eq!(asked.key, 19);
            requests.fetch_add(1, Ordering::SeqCst);
            None
        }
    });
    let cluster = Cluster::connect_lazy(config(&[]));
    let node = Broker {
        id: 1,
        host: broker.address.host.clone(),
        port: broker.address.port,
        rack: None,
    };
    let topic = CreatableTopic::default().with_name(topic_name("t"));
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let failed = cluster
        .call_broker_once(&node, Purpose::Slow, &request, &long())
        .unwrap_err();
    assert!(failed.was_sent);
    assert_eq!(failed.error.kind(), ErrorKind::Io);
    assert_eq!(requests.load(Ordering::SeqCst), 1);

    let nowhere = Broker {
        port: nobody().port,
        ..node
    };
    let failed = cluster
        .call_broker_once(&nowhere, Purpose::Slow, &request, &long())
        .unwrap_err();
    assert!(!failed.was_sent);
}

#[test]
fn a_leader_that_moved_is_found() {
    let moved = Arc::new(AtomicBool::new(false));
    let new = scripted::Broker::serve(|asked| Some(listed(asked, 0, 7)));
    let ports = Arc::new(AtomicI32::new(0));
    let old = scripted::Broker::serve({
        let (moved, ports, new) = (Arc::clone(&moved), Arc::clone(&ports), new.address.clone());
        move |asked| {
            let own = Address::new("127.0.0.1", u16::try_from(ports.load(Ordering::SeqCst)).unwrap());
            if !is_metadata(asked) {
                moved.store(true, Ordering::SeqCst);
                return Some(listed(asked, 6, -1));
            }
            let (leader, epoch) = if moved.load(Ordering::SeqCst) { (2, 6) } else { (1, 5) };
            Some(asked.answer::<MetadataRequest>(&metadata(&[(1, &own), (2, &new)], leader, epoch)))
        }
    });
    ports.store(i32::from(old.address.port), Ordering::SeqCst);
    // Broker 2 has no metadata to give.
    let cluster = Cluster::connect_lazy(config(&[&old.address]));
    assert_eq!(
        cluster
            .with_leader("t", 0, &long(), |leader, epoch, _| Ok((leader, epoch)))
            .unwrap(),
        (1, 5)
    );
    cluster
        .0
        .connections
        .get(&old.address, Purpose::Control, &long())
        .unwrap();
    assert_eq!(end_of_t(&cluster, &long()).unwrap(), 7);
    assert_eq!(cluster.metadata().leader("t", 0), Some((2, 6)));
}

#[test]
fn a_hint_is_followed_without_asking() {
    let old = nobody();
    let cluster = Cluster::connect_lazy(config(&[&old]));
    cluster.merge(&metadata(&[(1, &old)], 1, 5), false);
    let hint = |leader_epoch| LeaderHint {
        topic: "t",
        partition: 0,
        leader: 2,
        leader_epoch,
    };
    assert!(!cluster.apply_leader_hints([], [hint(5)]));
    assert!(cluster.apply_leader_hints([(2, "127.0.0.1", 9, None)], [hint(6)]));
    let leader = cluster.with_leader("t", 0, &long(), |leader, epoch, _| Ok((leader, epoch)));
    assert_eq!(leader.unwrap(), (2, 6));
    assert_eq!(cluster.broker_address(2), Some(Address::new("127.0.0.1", 9)));
}

#[test]
fn a_topic_that_was_in_trouble_is_asked_for_again() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let broker = start_with_port({
        let asked_for = Arc::clone(&asked_for);
        move |asked, port| {
            if !is_metadata(asked) {
                return Some(lone(asked, port));
            }
            let address = Address::new("127.0.0.1", u16::try_from(port).unwrap());
            let mut answer = metadata(&[(1, &address)], 1, 0);
            if asked_for.fetch_add(1, Ordering::SeqCst) < 2 {
                answer.topics[0].error_code = LEADER_NOT_AVAILABLE;
                answer.topics[0].partitions.clear();
            }
            Some(asked.answer::<MetadataRequest>(&answer))
        }
    });
    let cluster = Cluster::connect(config(&[&broker.address])).unwrap();
    // Somebody else has heard of the trouble, which then is all that is known.
    cluster.refresh(Topics::Named(&[Arc::from("t")]), &long()).unwrap();
    assert_eq!(end_of_t(&cluster, &long()).unwrap(), 42);
}

#[test]
fn a_partition_without_a_leader_is_waited_for_until_the_deadline() {
    let broker = start_with_port(|asked, port| {
        let address = Address::new("127.0.0.1", u16::try_from(port).unwrap());
        Some(asked.answer::<MetadataRequest>(&metadata(&[(1, &address)], -1, 3)))
    });
    let cluster = Cluster::connect(config(&[&broker.address])).unwrap();
    let error = end_of_t(&cluster, &briefly()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(
        (error.code(), error.topic(), error.partition()),
        (Some(5), Some("t"), Some(0))
    );
    let text = error.to_string();
    assert!(
        text.contains("the leader of t-0") && text.contains("LeaderNotAvailable"),
        "{text}"
    );
}

#[test]
fn an_unknown_topic_is_asked_for_a_while_and_then_believed_to_be_missing() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let broker = start_with_port({
        let asked_for = Arc::clone(&asked_for);
        move |asked, port| {
            let request: MetadataRequest = asked.body();
            assert!(!request.allow_auto_topic_creation);
            asked_for.fetch_add(1, Ordering::SeqCst);
            let topics = request.topics.unwrap().into_iter().map(|topic| {
                MetadataResponseTopic::default()
                    .with_name(topic.name)
                    .with_error_code(3)
            });
            let address = Address::new("127.0.0.1", u16::try_from(port).unwrap());
            let answer = metadata(&[(1, &address)], 1, 1).with_topics(topics.collect());
            Some(asked.answer::<MetadataRequest>(&answer))
        }
    });
    let cluster = Cluster::connect_lazy(ClusterConfig {
        // Longer than the pace of refreshes, so that there is a second question.
        unknown_topic_ttl: Duration::from_millis(400),
        ..config(&[&broker.address])
    });
    let error = cluster.topic("gone", &long()).unwrap_err();
    assert_eq!((error.kind(), error.topic()), (ErrorKind::UnknownTopic, Some("gone")));
    let times = asked_for.load(Ordering::SeqCst);
    assert!(times >= 2, "{times}");
    // Remembered, until somebody says that it was created.
    cluster.topic("gone", &long()).unwrap_err();
    assert_eq!(asked_for.load(Ordering::SeqCst), times);
    cluster.forget_missing(["gone"]);
    cluster.topic("gone", &long()).unwrap_err();
    assert!(asked_for.load(Ordering::SeqCst) > times);
}

#[test]
fn a_topic_that_was_refused_is_asked_for_again_after_a_while() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let allowed = Arc::new(AtomicBool::new(false));
    let broker = start_with_port({
        let (asked_for, allowed) = (Arc::clone(&asked_for), Arc::clone(&allowed));
        move |asked, port| {
            asked_for.fetch_add(1, Ordering::SeqCst);
            if allowed.load(Ordering::SeqCst) {
                return Some(lone(asked, port));
            }
            let address = Address::new("127.0.0.1", u16::try_from(port).unwrap());
            let refused = MetadataResponseTopic::default()
                .with_name(Some(topic_name("t")))
                .with_error_code(29);
            let answer = metadata(&[(1, &address)], 1, 1).with_topics(vec![refused]);
            Some(asked.answer::<MetadataRequest>(&answer))
        }
    });
    let refused_for = |ttl| {
        allowed.store(false, Ordering::SeqCst);
        let cluster = Cluster::connect_lazy(ClusterConfig {
            unknown_topic_ttl: ttl,
            ..config(&[&broker.address])
        });
        let error = cluster.topic("t", &long()).unwrap_err();
        assert_eq!((error.kind(), error.topic()), (ErrorKind::Authorization, Some("t")));
        allowed.store(true, Ordering::SeqCst);
        cluster
    };
    let cluster = refused_for(Duration::from_secs(3600));
    let times = asked_for.load(Ordering::SeqCst);
    cluster.topic("t", &long()).unwrap_err();
    assert_eq!(asked_for.load(Ordering::SeqCst), times, "it is believed");

    let cluster = refused_for(Duration::from_millis(20));
    wait_until(|| cluster.topic("t", &long()).is_ok());
}

#[test]
fn callers_share_a_refresh() {
    let (arrived, arrival) = bounded(64);
    let (go, wait) = bounded::<()>(64);
    let broker = start_with_port(move |asked, port| {
        arrived.send(()).unwrap();
        wait.recv().ok()?;
        Some(lone(asked, port))
    });
    let cluster = Cluster::connect_lazy(config(&[&broker.address]));
    let names: Vec<Arc<str>> = vec![Arc::from("t")];
    std::thread::scope(|scope| {
        let ask = || cluster.refresh(Topics::Named(&names), &long()).unwrap().generation;
        let first = scope.spawn(ask);
        arrival.recv().unwrap();
        // These come after the first question has left, and so share the second.
        let rest: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        wait_until(|| cluster.0.refreshes.lock().waiting() == 8);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap(), 1);
        for caller in rest {
            assert_eq!(caller.join().unwrap(), 2);
        }
    });
    assert_eq!(arrival.try_iter().count(), 1);
}

#[test]
fn callers_share_a_dial() {
    let broker = start_with_port(|asked, port| Some(lone(asked, port)));
    let cluster = Cluster::connect_lazy(config(&[&broker.address]));
    std::thread::scope(|scope| {
        let connect = || {
            let connections = &cluster.0.connections;
            connections.get(&broker.address, Purpose::Control, &long()).unwrap();
        };
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(connect)).collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    assert_eq!(broker.accepted(), 1);
}

#[test]
fn a_broker_that_failed_is_left_alone_for_a_while() {
    let broker = scripted::Broker::start(|mut peer| drop(peer.request()));
    let lasting = Backoff {
        min: Duration::from_secs(30),
        max: Duration::from_secs(30),
    };
    let cluster = Cluster::connect_lazy(ClusterConfig {
        reconnect_backoff: lasting,
        ..config(&[])
    });
    let soon = Deadline::after(Duration::from_secs(10), "the caller's limit");
    let connect = || cluster.0.connections.get(&broker.address, Purpose::Control, &soon);
    let first = connect().unwrap_err();
    let second = connect().unwrap_err();
    assert_eq!((first.to_string(), broker.accepted()), (second.to_string(), 1));
    // A caller with time waits, and is woken by the end of the client.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let deadline = cluster.listening(&long());
            cluster.0.connections.get(&broker.address, Purpose::Control, &deadline)
        });
        cluster.close(&long()).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn closing_ends_every_wait() {
    let (arrived, arrival) = bounded(1);
    let silent = scripted::Broker::start(move |mut peer| {
        peer.introduce();
        peer.request();
        arrived.send(()).unwrap();
        peer.wait_for_end();
    });
    let cluster = Cluster::connect_lazy(config(&[&silent.address]));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| end_of_t(&cluster, &long()).unwrap_err());
        arrival.recv().unwrap();
        cluster.close(&long()).unwrap();
        assert_eq!(answer.join().unwrap().kind(), ErrorKind::Closed);
    });
    assert_eq!(end_of_t(&cluster, &long()).unwrap_err().kind(), ErrorKind::Closed);
    cluster.close(&long()).unwrap();
}

#[test]
fn a_stop_ends_the_wait_of_one_caller_alone() {
    let cluster = Cluster::connect_lazy(ClusterConfig {
        retry_backoff: Backoff {
            min: Duration::from_secs(30),
            max: Duration::from_secs(30),
        },
        ..config(&[&nobody()])
    });
    let stop = Stop::new("stream");
    std::thread::scope(|scope| {
        let deadline = long().with_stop(&stop);
        let waiting = scope.spawn({
            let cluster = &cluster;
            move || end_of_t(cluster, &deadline).unwrap_err()
        });
        stop.stop();
        assert_eq!(waiting.join().unwrap().to_string(), "the stream was closed");
    });
    assert!(!cluster.closing().is_stopped());
}

#[test]
fn a_coordinator_is_asked_for_until_there_is_one() {
    let tries = Arc::new(AtomicUsize::new(0));
    let broker = scripted::Broker::serve({
        let tries = Arc::clone(&tries);
        move |asked| {
            let request: FindCoordinatorRequest = asked.body();
            assert_eq!(request.coordinator_keys, [StrBytes::from_static_str("g")]);
            let code = if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                15
            } else {
                0
            };
            let found = Found::default()
                .with_error_code(code)
                .with_node_id(BrokerId(3))
                .with_host(StrBytes::from_static_str("three"))
                .with_port(9093);
            let answer = FindCoordinatorResponse::default().with_coordinators(vec![found]);
            Some(asked.answer::<FindCoordinatorRequest>(&answer))
        }
    });
    let cluster = Cluster::connect_lazy(config(&[&broker.address]));
    let found = cluster.find_coordinator(CoordinatorKey::Group("g"), &long()).unwrap();
    assert_eq!((found.id, found.address()), (3, Address::new("three", 9093)));
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[test]
fn connections_unused_for_long_are_closed() {
    let broker = start_with_port(|asked, port| Some(lone(asked, port)));
    let cluster = Cluster::connect_lazy(ClusterConfig {
        connections_max_idle: Duration::from_millis(1),
        ..config(&[&broker.address])
    });
    let slow = cluster
        .0
        .connections
        .get(&broker.address, Purpose::Slow, &long())
        .unwrap();
    let watched = Arc::downgrade(&slow);
    drop(slow);
    // The table is looked through when it is used.
    wait_until(|| {
        end_of_t(&cluster, &long()).unwrap();
        watched.upgrade().is_none()
    });
}

#[test]
fn each_of_thousands_of_brokers_gets_enough_time_to_answer_and_the_last_one_all() {
    let limit = Duration::from_secs(16);
    assert_eq!(share(limit, 10_000, true), Duration::from_secs(2));
    assert_eq!(share(limit, 4, true), ONE_OF_SEVERAL);
    assert_eq!(share(limit, 4, false), Duration::from_secs(4));
    assert_eq!(share(limit, 1, true), limit);
}

/// A broker that leads partitions of `t`, each of which ends at ten times its number. It answers the first question about
/// them when it is told to, and closes the connection on others if `refuses` says so. Gives how many partitions each
/// question was about.
fn start_with_many(
    partitions: i32,
    wait: Receiver<()>,
    refuses: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> (scripted::Broker, Arc<Mutex<Vec<usize>>>) {
    let asked_about = Arc::new(Mutex::new(Vec::new()));
    let broker = start_with_port({
        let asked_about = Arc::clone(&asked_about);
        move |asked, port| {
            if is_metadata(asked) {
                let address = Address::new("127.0.0.1", u16::try_from(port).unwrap());
                let mut known = metadata(&[(1, &address)], 1, 0);
                let one = known.topics[0].partitions[0].clone();
                let all = (0..partitions).map(|index| one.clone().with_partition_index(index));
                known.topics[0].partitions = all.collect();
                return Some(asked.answer::<MetadataRequest>(&known));
            }
            let request: ListOffsetsRequest = asked.body();
            let wanted = &request.topics[0].partitions;
            let number = {
                let mut asked_about = asked_about.lock();
                asked_about.push(wanted.len());
                asked_about.len()
            };
            if number == 1 {
                wait.recv().unwrap();
            }
            if refuses(number) {
                return None;
            }
            let ends = wanted.iter().map(|wanted| {
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(wanted.partition_index)
                    .with_offset(i64::from(wanted.partition_index) * 10)
            });
            let topic = ListOffsetsTopicResponse::default()
                .with_name(topic_name("t"))
                .with_partitions(ends.collect());
            Some(asked.answer::<ListOffsetsRequest>(&ListOffsetsResponse::default().with_topics(vec![topic])))
        }
    });
    (broker, asked_about)
}

/// Asks for the ends of this many partitions at once, and lets the broker answer when all who are not in its first
/// question wait for that.
fn ends_of_many(broker: &scripted::Broker, asked_about: &Mutex<Vec<usize>>, partitions: i32, go: &Sender<()>) {
    let cluster = Cluster::connect(config(&[&broker.address])).unwrap();
    cluster.topic("t", &long()).unwrap();
    std::thread::scope(|scope| {
        let end = |partition| {
            let listed = cluster.list_offset("t", partition, ListAt::Latest, Isolation::ReadCommitted, &long());
            listed.unwrap().expect("a partition has an end").offset
        };
        let threads: Vec<_> = (0..partitions)
            .map(|partition| scope.spawn(move || (partition, end(partition))))
            .collect();
        wait_until(|| {
            let asked = asked_about.lock().iter().sum::<usize>();
            asked > 0 && asked + cluster.0.listings.waiting() == threads.len()
        });
        go.send(()).unwrap();
        for thread in threads {
            let (partition, end) = thread.join().unwrap();
            assert_eq!(end, i64::from(partition) * 10);
        }
    });
}

#[test]
fn questions_about_offsets_that_come_meanwhile_travel_together() {
    let (go, wait) = bounded(1); // told before anybody waits
    let (broker, asked_about) = start_with_many(20, wait, |_| false);
    ends_of_many(&broker, &asked_about, 20, &go);
    let asked_about = asked_about.lock();
    assert_eq!(
        (asked_about.len(), asked_about.iter().sum()),
        (2, 20),
        "{asked_about:?}"
    );
}

#[test]
fn questions_that_could_not_travel_together_are_asked_one_by_one() {
    let (go, wait) = bounded(1); // told before anybody waits
    let (broker, asked_about) = start_with_many(20, wait, |number| number == 2);
    ends_of_many(&broker, &asked_about, 20, &go);
    let asked_about = asked_about.lock();
    assert!(asked_about.len() > 3, "{asked_about:?}");
}
