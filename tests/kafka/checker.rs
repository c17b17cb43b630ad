//! The checker itself: what is right passes, and each kind of wrong is caught and named. And what feeds it: recorders,
//! members' logs, Java's members, and a topic that grows meanwhile.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests play the programs that use klamm, and look at clocks as they do"
)]
#![allow(
    clippy::result_large_err,
    reason = "a fault of a whole run, found once, tells all about it"
)]

mod equipment;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Checker, Committed, Ending, Fault, Handled, History, Line, Owned, What};

const TOPIC: &str = "t";

fn at(tick: u64) -> Duration {
    Duration::from_millis(tick)
}

/// A handling by this member in its first assignment of partition 0; of the record whose number is its offset.
fn handled(member: &str, number: i64, begin: u64, end: Option<u64>) -> Handled {
    Handled {
        member: member.to_owned(),
        assignment: 1,
        partition: (TOPIC, 0).into(),
        offset: number,
        number,
        begin: at(begin),
        end: end.map(at),
        acked: end.map(at),
        stale: false,
    }
}

fn owned(member: &str, from: u64, to: u64, ending: Ending) -> Owned {
    Owned {
        member: member.to_owned(),
        partition: (TOPIC, 0).into(),
        assignment: 1,
        from: at(from),
        to: Some(at(to)),
        ending: Some(ending),
    }
}

/// Two members after each other, with five records in all.
fn clean() -> History {
    let handled = vec![
        handled("a", 0, 10, Some(19)),
        handled("a", 1, 20, Some(29)),
        handled("a", 2, 30, Some(39)),
        handled("b", 3, 50, Some(59)),
        handled("b", 4, 60, Some(69)),
    ];
    History {
        handled,
        owned: vec![owned("a", 5, 40, Ending::Revoked), owned("b", 45, 70, Ending::Closed)],
        ..History::default()
    }
}

fn checker(history: History) -> Checker {
    Checker::of([history]).wrote((TOPIC, 0), 5)
}

fn committed(offset: i64) -> Committed {
    BTreeMap::from([((TOPIC, 0).into(), offset)])
}

#[test]
fn a_clean_run_passes_every_check() {
    let checker = checker(clean());
    checker.all(&committed(5), 0).unwrap();
    checker.one_at_a_time().unwrap();
    checker.gapless().unwrap();
    checker.commit_completeness(&committed(5)).unwrap();
    assert_eq!(checker.duplicates(), []);
    assert_eq!(checker.progress(), (5, 5));
}

#[test]
fn a_record_that_nobody_has_handled_is_a_loss() {
    let mut history = clean();
    history.handled.remove(2);
    let fault = checker(history).loss().unwrap_err();
    let missing = vec![((TOPIC, 0).into(), 2)];
    assert_eq!(fault, Fault::Loss { missing, begun: None });
    assert!(fault.to_string().contains("t-0 number 2"), "{fault}");
}

#[test]
fn a_record_that_was_begun_and_never_ended_is_a_loss_with_a_name() {
    let mut history = clean();
    history.handled[2].end = None;
    let fault = checker(history).loss().unwrap_err();
    assert!(
        matches!(&fault, Fault::Loss { begun: Some(begun), .. } if begun.member == "a"),
        "{fault}"
    );
}

#[test]
fn a_partition_that_nobody_has_touched_is_lost() {
    let fault = checker(clean()).wrote((TOPIC, 1), 7).loss().unwrap_err();
    assert!(
        matches!(&fault, Fault::Loss { missing, .. } if missing.len() == 7),
        "{fault}"
    );
}

#[test]
fn a_record_that_comes_before_its_predecessor_is_disorder() {
    let mut history = clean();
    history.handled[1].offset = 2;
    history.handled[2].offset = 1;
    let fault = checker(history).order().unwrap_err();
    assert!(
        matches!(&fault, Fault::Disorder { then, .. } if then.offset == 1),
        "{fault}"
    );
}

#[test]
fn a_record_that_comes_twice_in_one_assignment_is_disorder() {
    let mut history = clean();
    history.handled.insert(2, handled("a", 1, 29, Some(30)));
    checker(history).order().unwrap_err();
}

#[test]
fn a_record_that_begins_before_its_predecessor_is_disorder() {
    let mut history = clean();
    history.handled[2].begin = at(15);
    checker(history).order().unwrap_err();
}

#[test]
fn a_record_that_comes_again_in_another_assignment_is_a_duplicate_and_no_disorder() {
    let mut history = clean();
    history.handled.push(Handled {
        assignment: 2,
        ..handled("a", 1, 80, Some(81))
    });
    let checker = checker(history);
    checker.order().unwrap();
    let duplicates = checker.duplicates();
    assert_eq!(duplicates.len(), 1);
    assert_eq!(
        (duplicates[0].number, duplicates[0].begun, duplicates[0].finished),
        (1, 2, 2)
    );
    assert_eq!(duplicates[0].by, [("a".to_owned(), 1), ("a".to_owned(), 2)]);
    checker.duplicates_at_most(1).unwrap();
    checker.duplicates_at_most_in_each(1).unwrap();
    assert!(matches!(
        checker.duplicates_at_most(0),
        Err(Fault::Duplicates { count: 1, .. })
    ));
    checker.duplicates_at_most_in_each(0).unwrap_err();
    checker.all(&committed(5), 0).unwrap_err();
}

#[test]
fn only_what_could_not_be_committed_may_come_again() {
    let history = |ending, lines: Vec<Line>| {
        let mut history = clean();
        history.owned = vec![owned("a", 1, 45, ending), owned("b", 46, 90, Ending::Closed)];
        history.handled.push(handled("b", 1, 80, Some(81)));
        history.handled.push(handled("b", 2, 82, Some(83)));
        history.lines.insert("a".to_owned(), lines);
        history
    };
    let again = |ending, lines| checker(history(ending, lines));
    let looks = |offset| [(at(40), committed(offset)), (at(99), committed(5))];
    let died = again(Ending::Died, Vec::new());
    assert_eq!(died.repeatable(&looks(1)), [((TOPIC, 0).into(), 2)].into());
    died.duplicates_of_uncommitted(&looks(1)).unwrap();
    // What somebody saw committed before the next owner came is not begun again.
    assert!(matches!(
        died.duplicates_of_uncommitted(&looks(2)),
        Err(Fault::Duplicates {
            count: 2,
            budget: 1,
            ..
        })
    ));
    again(Ending::Revoked, Vec::new())
        .duplicates_of_uncommitted(&looks(1))
        .unwrap_err();
    let partition = klamm::TopicPartition::new(TOPIC, 0);
    let failed = |tick| Line {
        at: at(tick),
        what: What::Note {
            text: format!("CommitFailed {{ partition: {partition:?}, error: … }}"),
        },
    };
    let told = again(Ending::Revoked, vec![failed(44)]);
    told.duplicates_of_uncommitted(&looks(1)).unwrap();
    let told_later = again(Ending::Revoked, vec![failed(60)]);
    told_later.duplicates_of_uncommitted(&looks(1)).unwrap_err();
    // The report of a close is about what it had last.
    let closed = Line {
        at: at(95),
        what: What::Closed {
            left_group: true,
            unread: Vec::new(),
            unfinished: Vec::new(),
            uncommitted: vec![(partition, 2)],
        },
    };
    let mut reported = history(Ending::Revoked, vec![closed]);
    checker(reported.clone()).duplicates_of_uncommitted(&looks(1)).unwrap();
    reported.owned.push(Owned {
        assignment: 2,
        ..owned("a", 91, 95, Ending::Closed)
    });
    checker(reported).duplicates_of_uncommitted(&looks(1)).unwrap_err();
}

#[test]
fn two_members_at_once_are_caught_by_name() {
    let mut history = clean();
    history.handled[2].end = Some(at(51));
    let fault = checker(history).single_owner().unwrap_err();
    let names = |one: &Handled, other: &Handled| (one.member.clone(), other.member.clone());
    assert!(
        matches!(&fault, Fault::DoubleOwner { one, other } if names(one, other) == ("a".into(), "b".into())),
        "{fault}"
    );
}

#[test]
fn a_handling_that_never_ended_is_still_at_work() {
    let mut history = clean();
    history.handled[2].end = None;
    checker(history).single_owner().unwrap_err();
}

#[test]
fn a_process_that_has_died_is_no_longer_at_work() {
    let mut history = clean();
    history.handled[2].end = None;
    history.died("a", at(42));
    checker(history.clone()).single_owner().unwrap();
    history.died("a", at(51));
    checker(history).single_owner().unwrap_err();
}

#[test]
fn a_process_that_was_killed_while_it_was_stopped_has_not_worked_since() {
    let mut history = clean();
    history.handled[2].end = None;
    history.paused("a", at(42), at(90));
    history.died("a", at(90));
    checker(history.clone()).single_owner().unwrap();
    history.died("a", at(91));
    checker(history).single_owner().unwrap_err();
}

#[test]
fn what_was_in_hand_at_a_declared_loss_is_forgiven() {
    for ending in [Ending::Lost, Ending::Abandoned] {
        let mut history = clean();
        history.handled[2].end = Some(at(55));
        history.owned[0].ending = Some(ending);
        checker(history).single_owner().unwrap();
    }
}

#[test]
fn what_begins_after_the_partition_has_moved_is_not_forgiven_by_a_loss() {
    let mut history = clean();
    history.owned[0] = owned("a", 5, 90, Ending::Lost);
    history.handled.insert(3, handled("a", 3, 55, Some(58)));
    checker(history).single_owner().unwrap_err();
}

#[test]
fn a_stopped_process_may_begin_one_message_late_and_others_if_it_says_that_they_are_late() {
    let mut history = clean();
    history.owned[0] = owned("a", 5, 90, Ending::Lost);
    history.paused("a", at(40), at(52));
    history.handled.insert(3, handled("a", 3, 53, Some(54)));
    checker(history.clone()).single_owner().unwrap();
    history.handled.insert(4, handled("a", 4, 55, Some(56)));
    checker(history.clone()).single_owner().unwrap_err();
    history.handled[4].stale = true;
    checker(history).single_owner().unwrap();
}

#[test]
fn a_commit_above_what_is_not_done_is_unsafe() {
    let mut history = clean();
    history.handled[3].end = None;
    let checker = checker(history);
    checker.commit_safety(&committed(3)).unwrap();
    let fault = checker.commit_safety(&committed(4)).unwrap_err();
    assert!(
        matches!(&fault, Fault::UnsafeCommit { offset: 3, begun: Some(begun), .. } if begun.member == "b"),
        "{fault}"
    );
}

#[test]
fn a_commit_above_what_nobody_has_begun_is_unsafe() {
    let mut history = clean();
    history.handled.remove(1);
    let fault = checker(history).commit_safety(&committed(5)).unwrap_err();
    assert!(
        matches!(
            fault,
            Fault::UnsafeCommit {
                offset: 1,
                begun: None,
                ..
            }
        ),
        "{fault}"
    );
}

#[test]
fn a_commit_behind_the_end_is_unsafe() {
    let fault = checker(clean()).commit_safety(&committed(6)).unwrap_err();
    assert!(matches!(fault, Fault::CommitBehindEnd { end: 5, .. }), "{fault}");
}

#[test]
fn a_commit_that_was_seen_too_early_is_unsafe() {
    let checker = checker(clean());
    checker.commit_safety_at(&committed(2), at(29)).unwrap();
    checker.commit_safety_at(&committed(2), at(28)).unwrap_err();
}

#[test]
fn commits_that_were_seen_over_time_must_be_safe_and_never_go_back() {
    let checker = checker(clean());
    let looks = |all: &[(u64, i64)]| -> Vec<_> {
        all.iter()
            .map(|(tick, offset)| (at(*tick), committed(*offset)))
            .collect()
    };
    checker.commits(&looks(&[(1, 0), (29, 2), (39, 3), (69, 5)])).unwrap();
    let fault = checker.commits(&looks(&[(29, 2), (30, 1)])).unwrap_err();
    assert!(matches!(fault, Fault::CommitWentBack { from: 2, to: 1, .. }), "{fault}");
    checker.commits(&looks(&[(29, 3)])).unwrap_err();
}

#[test]
fn a_commit_of_what_was_not_acked_is_unsafe_where_acks_count() {
    let mut history = clean();
    history.handled[1].acked = None;
    checker(history.clone()).commit_safety(&committed(5)).unwrap();
    let strict = checker(history).acks_count();
    strict.commit_safety(&committed(1)).unwrap();
    strict.commit_safety(&committed(2)).unwrap_err();
    strict.commit_completeness(&committed(1)).unwrap();
    strict.commit_completeness(&committed(0)).unwrap_err();
}

#[test]
fn offsets_with_gaps_are_told_apart_from_numbers() {
    let mut history = clean();
    let offsets = [0, 2, 3, 7, 8];
    for handled in &mut history.handled {
        handled.offset = offsets[handled.number as usize];
    }
    let checker = Checker::of([history.clone()]).wrote_at((TOPIC, 0), &offsets);
    // A marker may follow the last record.
    checker.all(&committed(10), 0).unwrap();
    history.handled[3].end = None;
    let checker = Checker::of([history]).wrote_at((TOPIC, 0), &offsets);
    checker.commit_safety(&committed(7)).unwrap();
    checker.commit_safety(&committed(8)).unwrap_err();
}

#[test]
fn a_record_that_was_never_written_is_caught() {
    for (offset, number) in [(4, 5), (4, 3), (9, 4), (4, -1)] {
        let mut history = clean();
        (history.handled[4].offset, history.handled[4].number) = (offset, number);
        let fault = checker(history).only_what_was_written().unwrap_err();
        assert!(matches!(fault, Fault::NotWritten(_)), "{fault}");
    }
}

#[test]
fn two_at_once_in_one_member_and_numbers_left_out_can_be_asked_for() {
    let mut history = clean();
    history.handled[0].end = Some(at(21));
    let checker = checker(history);
    checker.all(&committed(5), 0).unwrap();
    checker.one_at_a_time().unwrap_err();

    let mut history = clean();
    history.handled.remove(1);
    history.handled.push(handled("c", 1, 80, Some(81)));
    let checker = self::checker(history);
    checker.all(&committed(5), 0).unwrap();
    checker.gapless().unwrap_err();
}

#[test]
fn all_faults_of_a_run_are_told_together() {
    let mut history = clean();
    history.handled[2].end = None;
    let faults = checker(history).all(&committed(5), 0).unwrap_err();
    assert_eq!(faults.0.len(), 3, "{faults}");
    let told = faults.to_string();
    for word in ["loss: ", "two owners", "unsafe commit"] {
        assert!(told.contains(word), "{told}");
    }
}

#[test]
#[should_panic(expected = "two members are called a")]
fn two_members_of_one_name_are_refused() {
    let one = || History::of_lines("a", Vec::new());
    Checker::of([one(), one()]);
}

#[test]
fn every_line_of_a_log_is_read_as_it_was_written() {
    let partition = || klamm::TopicPartition::new("with-dash.and_dot", 7);
    let all = [
        What::Begin {
            call: 3,
            partition: partition(),
            offset: 12,
            number: -1,
            assignment: 2,
            stale: true,
        },
        What::End { call: 3 },
        What::Acking { call: 3 },
        What::Acked {
            call: 3,
            counted: false,
        },
        What::Assigned {
            partition: partition(),
            position: 12,
        },
        What::Moved { partition: partition() },
        What::Revoked { partition: partition() },
        What::Lost {
            partition: partition(),
            why: "the group went on".into(),
        },
        What::Abandoned {
            partition: partition(),
            oldest: 12,
        },
        What::Rebalancing,
        What::Rebalanced {
            generation: 4,
            claimed: vec![partition(), ("x", 0).into()],
            released: Vec::new(),
            current: vec![partition()],
        },
        What::Joined,
        What::Committed,
        What::Failed {
            place: "commit".into(),
            why: "timed out".into(),
        },
        What::Closed {
            left_group: true,
            unread: vec![(partition(), 13)],
            unfinished: Vec::new(),
            uncommitted: vec![(partition(), 14), (("x", 0).into(), 0)],
        },
        What::Note {
            text: "anything".into(),
        },
    ];
    for what in all {
        let line = Line {
            at: Duration::new(1_790_000_000, 123_456_789),
            what,
        };
        assert_eq!(Line::parse(&line.to_string()), line);
    }
    let two_lines = What::Note {
        text: "two\nlines\tof".into(),
    };
    let line = Line {
        at: at(1),
        what: two_lines,
    }
    .to_string();
    assert_eq!(
        Line::parse(&line).what,
        What::Note {
            text: "two lines of".into()
        }
    );
}

#[test]
fn a_close_that_reports_unfinished_messages_abandons_their_partition() {
    let line = |tick, what| Line { at: at(tick), what };
    let assigned = |number| What::Assigned {
        partition: (TOPIC, number).into(),
        position: 0,
    };
    let closed = What::Closed {
        left_group: true,
        unread: Vec::new(),
        unfinished: vec![((TOPIC, 1).into(), 3)],
        uncommitted: Vec::new(),
    };
    let lines = vec![line(1, assigned(0)), line(2, assigned(1)), line(3, closed)];
    let history = History::of_lines("a", lines);
    let endings: Vec<_> = history.owned.iter().map(|owned| owned.ending).collect();
    assert_eq!(endings, [Some(Ending::Closed), Some(Ending::Abandoned)]);
}

#[test]
fn owners_are_known_at_each_time() {
    let assigned = |tick| Line {
        at: at(tick),
        what: What::Assigned {
            partition: (TOPIC, 0).into(),
            position: 0,
        },
    };
    let revoked = Line {
        at: at(20),
        what: What::Revoked {
            partition: (TOPIC, 0).into(),
        },
    };
    let mut history = History::of_lines("a", vec![assigned(10), revoked, assigned(40)]);
    history.add(History::of_lines("b", vec![assigned(25)]));
    let owners = |tick| {
        history
            .owners_at(at(tick))
            .remove(&(TOPIC, 0).into())
            .unwrap_or_default()
    };
    assert_eq!(owners(9), [""; 0]);
    assert_eq!(owners(10), ["a"]);
    assert_eq!(owners(22), [""; 0]);
    assert_eq!(owners(30), ["b"]);
    assert_eq!(owners(40), ["a", "b"]);
    assert_eq!(history.owners().len(), 1);
    history.died("a", at(50));
    assert_eq!(history.owners()[&(TOPIC, 0).into()], ["b"]);
    let endings: Vec<_> = history
        .owned
        .iter()
        .map(|owned| (owned.assignment, owned.ending))
        .collect();
    assert_eq!(
        endings,
        [(1, Some(Ending::Revoked)), (2, Some(Ending::Died)), (1, None)]
    );
}
