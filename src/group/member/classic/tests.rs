//! One member, answer by answer.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    cluster::Backoff,
    group::{assignor::Assignor, member::JoinedMember},
    wire::membership::{Assignment, encode_assignment},
};

/// A member on its own, and the time.
struct Alone {
    member: Member,
    now: Instant,
}

/// What comes out, without what does not matter here.
#[derive(Debug, PartialEq, Eq)]
enum Out {
    Connect(Duration),
    Sent(Ticket, Request),
    Revoke,
    Lost(String),
    Assign(Vec<String>),
    Describe(Vec<Arc<str>>),
    Trouble(String),
    Well,
    Fail(String),
    Left,
}

#[allow(
    clippy::disallowed_methods,
    reason = "where virtual time begins; nothing else reads the clock"
)]
fn alone(instance_id: Option<&str>) -> Alone {
    let config = MemberConfig {
        topics: vec![Arc::from("t"), Arc::from("u")],
        instance_id: instance_id.map(str::to_owned),
        session_timeout: Duration::from_secs(45),
        heartbeat_interval: Duration::from_secs(3),
        rebalance_timeout: Duration::from_secs(60),
        assignors: vec![Assignor::Range, Assignor::RoundRobin],
        backoff: Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
        },
        random: 7,
    };
    let now = Instant::now();
    let member = Member::new(config, now);
    Alone { member, now }
}

impl Alone {
    fn outs(&mut self) -> Vec<Out> {
        let now = self.now;
        let out = |output| match output {
            Output::Connect { at } => Out::Connect(at - now),
            Output::Send { ticket, request, .. } => Out::Sent(ticket, request),
            Output::Revoke => Out::Revoke,
            Output::Lost { cause } => Out::Lost(cause.to_string()),
            Output::Assign { partitions, .. } => Out::Assign(partitions.iter().map(ToString::to_string).collect()),
            Output::Describe(topics) => Out::Describe(topics),
            Output::Trouble(error) => Out::Trouble(error.to_string()),
            Output::Well => Out::Well,
            Output::Fail(error) => Out::Fail(error.to_string()),
            Output::Left => Out::Left,
        };
        std::iter::from_fn(|| self.member.poll()).map(out).collect()
    }

    fn out(&mut self) -> Out {
        let mut outs = self.outs();
        assert_eq!(outs.len(), 1, "{outs:?}");
        outs.remove(0)
    }

    fn sent(&mut self) -> (Ticket, Request) {
        match self.out() {
            Out::Sent(ticket, request) => (ticket, request),
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.member.tick(self.now);
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.member.answered(ticket, Ok(answer), self.now);
    }

    fn connect(&mut self) {
        self.member.connected(self.now);
    }

    /// JoinGroup is under way; gives its ticket.
    fn joining(instance_id: Option<&str>) -> (Self, Ticket) {
        let mut alone = alone(instance_id);
        assert_eq!(alone.out(), Out::Connect(Duration::ZERO));
        alone.connect();
        let (mut ticket, _) = alone.sent();
        if instance_id.is_none() {
            alone.answer(ticket, joined(79, "m", "", vec![]));
            ticket = alone.sent().0;
        }
        (alone, ticket)
    }

    fn syncing() -> (Self, Ticket) {
        let (mut alone, ticket) = Self::joining(None);
        alone.answer(ticket, joined(0, "m", "other", vec![]));
        let ticket = alone.sent().0;
        (alone, ticket)
    }

    /// A follower that owns t-1.
    fn stable() -> Self {
        let (mut alone, ticket) = Self::syncing();
        alone.answer(ticket, synced(0, &[("t", &[1])]));
        assert_eq!(alone.out(), Out::Assign(vec!["t-1".to_owned()]));
        alone
    }

    /// Its heartbeat is under way.
    fn beating() -> (Self, Ticket) {
        let mut alone = Self::stable();
        alone.pass(3_000);
        let (ticket, request) = alone.sent();
        assert!(matches!(request, Request::Heartbeat { generation: 4, .. }));
        (alone, ticket)
    }

    /// The leader of itself alone, with so many partitions of t.
    fn leading(count: i32) -> Self {
        let (mut alone, ticket) = Self::joining(None);
        let me = vec![member("m", &["t", "u"])];
        alone.answer(ticket, joined(0, "m", "m", me));
        assert_eq!(alone.out(), Out::Describe(vec![Arc::from("t"), Arc::from("u")]));
        alone.member.topics(&counts(count), alone.now);
        let (ticket, _) = alone.sent();
        alone.answer(ticket, synced(0, &[("t", &[0])]));
        alone.out();
        alone
    }

    fn identity(&self) -> Identity {
        self.member.identity().cloned().unwrap()
    }
}

fn member(id: &str, topics: &[&str]) -> JoinedMember {
    let topics: Vec<_> = topics.iter().map(|&topic| Arc::from(topic)).collect();
    JoinedMember {
        id: id.to_owned(),
        instance_id: None,
        subscription: encode_subscription(&topics),
    }
}

fn counts(of_t: i32) -> Counts {
    BTreeMap::from([(Arc::from("t"), of_t)])
}

fn joined(code: i16, member_id: &str, leader: &str, members: Vec<JoinedMember>) -> Answer {
    Answer::Join {
        code,
        generation: if code == 0 { 4 } else { -1 },
        protocol: (code == 0).then(|| "range".to_owned()),
        leader: leader.to_owned(),
        member_id: member_id.to_owned(),
        skip_assignment: false,
        members,
    }
}

fn synced(code: i16, partitions: &[(&str, &[i32])]) -> Answer {
    let assignment: Assignment = partitions
        .iter()
        .map(|(topic, partitions)| (Arc::from(*topic), partitions.to_vec()))
        .collect();
    Answer::Sync {
        code,
        assignment: encode_assignment(&assignment),
    }
}

fn is_join(out: &Out, id: &str) -> bool {
    matches!(out, Out::Sent(_, Request::Join { member_id, .. }) if member_id == id)
}

fn is_backoff(delay: Duration) -> bool {
    (80..=120).contains(&delay.as_millis())
}

// ---- joining ----

#[test]
fn a_named_member_that_is_answered_directly_is_in_after_one_join_group() {
    let (mut alone, ticket) = Alone::joining(Some("one"));
    alone.answer(ticket, joined(0, "m", "other", vec![]));
    assert!(matches!(alone.sent().1, Request::Sync { instance_id: Some(name), .. } if name == "one"));
}

#[test]
fn what_only_the_program_can_mend_ends_the_membership_with_a_sentence_that_says_how() {
    let cases: [(i16, &str); 7] = [
        (23, "assignors (range, roundrobin)"),
        (24, "the group needs a name"),
        (26, "session_timeout is 45s"),
        (30, "the right to read this group"),
        (35, "code 35"),
        (81, "group.max.size"),
        (9_999, "code 9999"),
    ];
    for (code, sentence) in cases {
        let (mut alone, ticket) = Alone::joining(None);
        alone.answer(ticket, joined(code, "", "", vec![]));
        let Out::Fail(error) = alone.out() else {
            panic!("{code}")
        };
        assert!(error.contains(sentence), "{error}");
        assert!(error.ends_with(", in JoinGroup"), "{error}");
    }
}

#[test]
fn a_busy_coordinator_is_asked_again_over_the_same_link_after_a_while() {
    for code in [14, 27] {
        let (mut alone, ticket) = Alone::joining(None);
        alone.answer(ticket, joined(code, "", "", vec![]));
        assert!(matches!(alone.out(), Out::Trouble(_)));
        let wait = alone.member.timer().unwrap() - alone.now;
        assert!(is_backoff(wait), "{wait:?}");
        alone.pass(120);
        assert!(is_join(&alone.out(), "m"));
    }
}

#[test]
fn a_coordinator_that_is_elsewhere_is_looked_for_and_joined_under_the_same_id() {
    for code in [15, 16] {
        let (mut alone, ticket) = Alone::joining(None);
        alone.answer(ticket, joined(code, "", "", vec![]));
        let outs = alone.outs();
        assert!(
            matches!(&outs[..], [Out::Trouble(_), Out::Connect(delay)] if is_backoff(*delay)),
            "{outs:?}"
        );
        alone.connect();
        assert!(is_join(&alone.out(), "m"));
    }
}

#[test]
fn an_unknown_id_is_forgotten_at_once_the_first_time_and_with_a_wait_from_then_on() {
    let (mut alone, ticket) = Alone::joining(None);
    alone.answer(ticket, joined(25, "", "", vec![]));
    let Out::Sent(ticket, Request::Join { member_id, .. }) = alone.out() else {
        panic!()
    };
    assert_eq!(member_id, "");
    alone.answer(ticket, joined(25, "", "", vec![]));
    assert!(matches!(alone.out(), Out::Trouble(_)));
    assert!(alone.member.timer() > Some(alone.now));
}

#[test]
fn an_assignment_that_is_refused_is_asked_for_again_from_the_beginning() {
    for (code, id) in [(27, "m"), (22, "m"), (25, "")] {
        let (mut alone, ticket) = Alone::syncing();
        alone.answer(ticket, synced(code, &[]));
        assert!(is_join(&alone.out(), id), "{code}");
    }
    for code in [15, 16] {
        let (mut alone, ticket) = Alone::syncing();
        alone.answer(ticket, synced(code, &[]));
        assert!(matches!(&alone.outs()[..], [Out::Trouble(_), Out::Connect(_)]));
        alone.connect();
        assert!(is_join(&alone.out(), "m"));
    }
}

#[test]
fn a_long_wait_for_the_leader_is_kept_up_by_heartbeats() {
    let (mut alone, sync) = Alone::syncing();
    for _ in 0..20 {
        alone.pass(3_000);
        let (ticket, _) = alone.sent();
        // Brokers before 2.7 call it a rebalance.
        alone.answer(ticket, Answer::Heartbeat { code: 27 });
        assert_eq!(alone.outs(), []);
    }
    // Nobody has said that no rebalance is under way for longer than the group waits in one.
    alone.answer(sync, synced(0, &[("t", &[1])]));
    assert!(is_join(&alone.out(), "m"));

    let (mut alone, sync) = Alone::syncing();
    for _ in 0..20 {
        alone.pass(3_000);
        let (ticket, _) = alone.sent();
        alone.answer(ticket, Answer::Heartbeat { code: 0 });
    }
    alone.answer(sync, synced(0, &[("t", &[1])]));
    assert_eq!(alone.out(), Out::Assign(vec!["t-1".to_owned()]));
}

#[test]
fn what_was_not_asked_for_is_left_out_of_an_assignment() {
    let (mut alone, ticket) = Alone::syncing();
    alone.answer(ticket, synced(0, &[("foreign", &[0]), ("t", &[-1, 2])]));
    let outs = alone.outs();
    let [Out::Trouble(trouble), Out::Assign(partitions)] = &outs[..] else {
        panic!("{outs:?}")
    };
    assert!(trouble.contains("has not asked for"), "{trouble}");
    assert_eq!(partitions, &["t-2"]);
    // Heartbeats do not mend it.
    alone.pass(3_000);
    let (ticket, _) = alone.sent();
    alone.answer(ticket, Answer::Heartbeat { code: 0 });
    assert_eq!(alone.outs(), []);
}

#[test]
fn an_assignment_that_cannot_be_read_is_one_of_nothing() {
    let (mut alone, ticket) = Alone::syncing();
    let assignment = vec![0, 1, 0x7f, 0xff, 0xff, 0xff];
    alone.answer(ticket, Answer::Sync { code: 0, assignment });
    assert!(matches!(&alone.outs()[..], [Out::Trouble(_), Out::Assign(partitions)] if partitions.is_empty()));
}

// ---- leading ----

#[test]
fn a_member_that_cannot_be_understood_gets_nothing_and_is_told_of() {
    let (mut alone, ticket) = Alone::joining(None);
    let broken = JoinedMember {
        subscription: vec![0, 0, 0xff],
        ..member("broken", &[])
    };
    alone.answer(ticket, joined(0, "m", "m", vec![member("m", &["t", "u"]), broken]));
    alone.out();
    alone.member.topics(&counts(2), alone.now);
    let Request::Sync { assignments, .. } = alone.sent().1 else {
        panic!()
    };
    let all = Assignment::from([(Arc::from("t"), vec![0, 1])]);
    let expected = [
        ("broken".to_owned(), encode_assignment(&Assignment::new())),
        ("m".to_owned(), encode_assignment(&all)),
    ];
    assert_eq!(assignments, expected);
}

#[test]
fn a_leader_whose_broker_has_the_assignment_sends_none_and_watches_still() {
    let (mut alone, ticket) = Alone::joining(Some("one"));
    let Answer::Join {
        code,
        generation,
        protocol,
        leader,
        member_id,
        members,
        ..
    } = joined(0, "m", "m", vec![member("m", &["t"])])
    else {
        panic!()
    };
    let answer = Answer::Join {
        code,
        generation,
        protocol,
        leader,
        member_id,
        skip_assignment: true,
        members,
    };
    alone.answer(ticket, answer);
    alone.out();
    alone.member.topics(&counts(2), alone.now);
    let (ticket, request) = alone.sent();
    assert!(matches!(request, Request::Sync { assignments, .. } if assignments.is_empty()));
    alone.answer(ticket, synced(0, &[("t", &[0, 1])]));
    alone.out();
    alone.member.topics(&counts(3), alone.now);
    assert_eq!(alone.out(), Out::Revoke);
}

#[test]
fn more_partitions_are_a_rebalance_for_the_leader_and_nothing_for_others() {
    let mut alone = Alone::leading(1);
    alone.member.topics(&counts(1), alone.now);
    assert_eq!(alone.outs(), []);
    alone.member.topics(&counts(2), alone.now);
    assert_eq!(alone.out(), Out::Revoke);
    alone.member.topics(&counts(3), alone.now);
    assert_eq!(alone.outs(), []);
    alone.member.released(alone.now);
    assert!(is_join(&alone.out(), "m"));

    let mut follower = Alone::stable();
    follower.member.topics(&counts(9), follower.now);
    assert_eq!(follower.outs(), []);
}

#[test]
fn counts_that_change_while_the_assignment_is_on_its_way_save_a_hand_over() {
    let (mut alone, ticket) = Alone::joining(None);
    alone.answer(ticket, joined(0, "m", "m", vec![member("m", &["t"])]));
    alone.out();
    alone.member.topics(&counts(1), alone.now);
    let (ticket, _) = alone.sent();
    alone.member.topics(&counts(2), alone.now);
    alone.answer(ticket, synced(0, &[("t", &[0])]));
    assert!(is_join(&alone.out(), "m"));
}

// ---- a place in the group ----

#[test]
fn validity_counts_from_the_send_time_of_what_was_answered() {
    let (mut alone, ticket) = Alone::beating();
    let sent = alone.now;
    alone.pass(1_000);
    alone.answer(ticket, Answer::Heartbeat { code: 0 });
    assert_eq!(alone.member.valid_until(), Some(sent + Duration::from_secs(45)));
}

#[test]
fn a_rebalance_is_one_revoke_and_heartbeats_go_on_until_all_is_released() {
    let (mut alone, ticket) = Alone::beating();
    alone.answer(ticket, Answer::Heartbeat { code: 27 });
    assert_eq!(alone.out(), Out::Revoke);
    assert!(alone.member.is_rebalancing());
    let old = alone.identity();
    for _ in 0..5 {
        alone.pass(3_000);
        let (ticket, request) = alone.sent();
        assert!(matches!(request, Request::Heartbeat { generation: 4, .. }));
        alone.answer(ticket, Answer::Heartbeat { code: 27 });
        assert_eq!(alone.outs(), []);
    }
    assert_eq!(alone.identity(), old);
    alone.member.released(alone.now);
    assert!(is_join(&alone.out(), "m"));
    assert_eq!((alone.member.identity(), alone.member.valid_until()), (None, None));
}

#[test]
fn a_rebalance_that_may_have_ended_without_us_takes_everything_however_well_heartbeats_are() {
    let (mut alone, ticket) = Alone::beating();
    alone.answer(ticket, Answer::Heartbeat { code: 27 });
    alone.out();
    // The last word that no rebalance was under way is the answer to SyncGroup, three seconds ago.
    for _ in 0..18 {
        alone.pass(3_000);
        let (ticket, _) = alone.sent();
        alone.answer(ticket, Answer::Heartbeat { code: 27 });
    }
    alone.pass(3_000);
    let outs = alone.outs();
    assert!(matches!(&outs[..], [Out::Lost(cause), join] if cause.contains("rebalance_timeout") && is_join(join, "m")));
}

#[test]
fn a_heartbeat_that_is_refused_loses_the_place_and_the_id_only_if_that_is_unknown() {
    for (code, id) in [(22, "m"), (25, "")] {
        let (mut alone, ticket) = Alone::beating();
        alone.answer(ticket, Answer::Heartbeat { code });
        let outs = alone.outs();
        assert!(
            matches!(&outs[..], [Out::Lost(_), join] if is_join(join, id)),
            "{outs:?}"
        );
    }
}

#[test]
fn who_is_fenced_or_forbidden_loses_everything_and_ends() {
    for code in [82, 30] {
        let (mut alone, ticket) = Alone::beating();
        alone.answer(ticket, Answer::Heartbeat { code });
        assert!(matches!(&alone.outs()[..], [Out::Lost(_), Out::Fail(_)]));
        alone.connect();
        alone.pass(100_000);
        alone.member.leave(alone.now);
        assert_eq!(alone.outs(), []);
        assert_eq!(alone.member.timer(), None);
    }
}

#[test]
fn a_heartbeat_that_a_busy_coordinator_refuses_is_sent_again_soon() {
    let (mut alone, ticket) = Alone::beating();
    alone.answer(ticket, Answer::Heartbeat { code: 14 });
    assert!(matches!(alone.out(), Out::Trouble(_)));
    alone.pass(120);
    let (ticket, _) = alone.sent();
    alone.answer(ticket, Answer::Heartbeat { code: 0 });
    assert_eq!(alone.out(), Out::Well);
}

#[test]
fn a_new_link_is_tried_with_a_heartbeat_and_nothing_else() {
    let mut alone = Alone::stable();
    alone.member.disconnected(Error::new(ErrorKind::Io, "cut"), alone.now);
    assert!(matches!(&alone.outs()[..], [Out::Trouble(_), Out::Connect(_)]));
    alone.now += Duration::from_secs(1);
    alone.member.disconnected(Error::new(ErrorKind::Io, "cut"), alone.now);
    assert!(matches!(alone.out(), Out::Connect(_)), "said once");
    alone.connect();
    let (ticket, request) = alone.sent();
    assert!(matches!(request, Request::Heartbeat { generation: 4, .. }));
    alone.answer(ticket, Answer::Heartbeat { code: 0 });
    assert_eq!(alone.out(), Out::Well);
}

#[test]
fn an_unanswered_heartbeat_makes_a_new_link_while_there_is_time() {
    let (mut alone, _) = Alone::beating();
    alone.pass(14_999);
    assert_eq!(alone.outs(), []);
    alone.pass(1);
    assert!(matches!(&alone.outs()[..], [Out::Trouble(_), Out::Connect(_)]));
    assert!(alone.member.identity().is_some());
}

#[test]
fn silence_for_a_session_takes_everything_and_tells_the_last_error() {
    let mut alone = Alone::stable();
    alone.member.disconnected(Error::new(ErrorKind::Io, "cut"), alone.now);
    alone.outs();
    alone.pass(44_999);
    assert_eq!(alone.outs(), []);
    assert_eq!(alone.member.timer(), Some(alone.now + Duration::from_millis(1)));
    alone.pass(1);
    let Out::Lost(cause) = alone.out() else { panic!() };
    assert!(
        cause.contains("session_timeout (45s)") && cause.ends_with("cut"),
        "{cause}"
    );
    alone.connect();
    assert!(is_join(&alone.out(), "m"));
}

#[test]
fn an_answer_that_comes_after_the_end_of_the_session_changes_nothing() {
    let (mut alone, ticket) = Alone::beating();
    alone.now += Duration::from_secs(50);
    alone.answer(ticket, Answer::Heartbeat { code: 0 });
    let outs = alone.outs();
    assert!(
        matches!(&outs[..], [Out::Lost(_), join] if is_join(join, "m")),
        "{outs:?}"
    );
}

#[test]
fn an_answer_of_the_wrong_kind_is_a_dead_link() {
    let (mut alone, ticket) = Alone::beating();
    alone.answer(ticket, Answer::Leave { code: 0 });
    assert!(matches!(&alone.outs()[..], [Out::Trouble(_), Out::Connect(_)]));
}

#[test]
fn an_answer_to_what_was_superseded_does_not_count() {
    let (mut alone, ticket) = Alone::beating();
    alone.member.disconnected(Error::new(ErrorKind::Io, "cut"), alone.now);
    alone.outs();
    alone.answer(ticket, Answer::Heartbeat { code: 25 });
    assert_eq!(alone.outs(), []);
    alone.connect();
    let (again, _) = alone.sent();
    alone.answer(ticket, Answer::Heartbeat { code: 25 });
    assert_eq!(alone.outs(), []);
    alone.answer(again, Answer::Heartbeat { code: 0 });
    assert_eq!(alone.out(), Out::Well);
}

#[test]
fn a_version_that_the_broker_lacks_ends_the_membership_and_damage_only_the_link() {
    let (mut alone, ticket) = Alone::joining(None);
    let error = Error::new(ErrorKind::Unsupported, "no common version");
    alone.member.answered(ticket, Err(error), alone.now);
    assert!(matches!(alone.out(), Out::Fail(_)));
    let (mut alone, ticket) = Alone::joining(None);
    alone
        .member
        .answered(ticket, Err(Error::protocol("garbage")), alone.now);
    assert!(matches!(&alone.outs()[..], [Out::Trouble(_), Out::Connect(_)]));
}

#[test]
fn credentials_that_are_refused_end_the_membership() {
    let mut alone = alone(None);
    alone.outs();
    let error = Error::new(ErrorKind::Authentication, "wrong password");
    alone.member.disconnected(error, alone.now);
    assert!(matches!(alone.out(), Out::Fail(_)));
}

// ---- commits ----

#[test]
fn a_refused_commit_counts_as_a_heartbeat_does() {
    let refused = |code| {
        let mut alone = Alone::stable();
        alone.member.refused(&alone.identity(), code, alone.now);
        alone.outs()
    };
    assert!(matches!(&refused(25)[..], [Out::Lost(_), join] if is_join(join, "")));
    assert!(matches!(&refused(22)[..], [Out::Lost(_), join] if is_join(join, "m")));
    assert!(matches!(&refused(82)[..], [Out::Lost(_), Out::Fail(_)]));
    assert_eq!(refused(27), [Out::Revoke]);
    assert!(matches!(&refused(16)[..], [Out::Trouble(_), Out::Connect(_)]));
    for harmless in [0, 3, 12, 14, 28, 30, 9_999] {
        assert_eq!(refused(harmless), [], "{harmless}");
    }
}

#[test]
fn a_refused_commit_of_an_earlier_generation_says_nothing() {
    let mut alone = Alone::stable();
    let earlier = Identity {
        generation: 3,
        ..alone.identity()
    };
    alone.member.refused(&earlier, 25, alone.now);
    assert_eq!(alone.outs(), []);
}

// ---- leaving ----

#[test]
fn a_goodbye_ends_with_any_answer_or_with_the_link() {
    let mut one = Alone::stable();
    one.member.leave(one.now);
    let (ticket, request) = one.sent();
    assert_eq!(request, Request::Leave { member_id: "m".into() });
    one.answer(ticket, Answer::Leave { code: 25 });
    assert_eq!(one.out(), Out::Left);

    let mut other = Alone::stable();
    other.member.leave(other.now);
    other.sent();
    other.member.disconnected(Error::closed("connection"), other.now);
    assert_eq!(other.out(), Out::Left);
    other.connect();
    assert_eq!(other.outs(), []);
}

#[test]
fn who_has_a_name_or_no_link_goes_without_a_word() {
    let (mut named, _) = Alone::joining(Some("one"));
    named.member.leave(named.now);
    assert_eq!(named.out(), Out::Left);
    let mut cut = Alone::stable();
    cut.member.disconnected(Error::new(ErrorKind::Io, "cut"), cut.now);
    cut.outs();
    cut.member.leave(cut.now);
    assert_eq!(cut.out(), Out::Left);
}
