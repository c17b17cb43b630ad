//! n members and one coordinator on virtual time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::*;
use crate::wire::membership::encode_assignment;

#[allow(
    clippy::disallowed_methods,
    reason = "where virtual time begins; nothing else reads the clock"
)]
fn beginning() -> Instant {
    Instant::now()
}

fn config() -> MemberConfig {
    MemberConfig {
        topics: vec![Arc::from("t")],
        instance_id: None,
        session_timeout: Duration::from_secs(45),
        heartbeat_interval: Duration::from_secs(3),
        rebalance_timeout: Duration::from_secs(60),
        assignors: vec![Assignor::Range, Assignor::RoundRobin],
        backoff: Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
        },
        random: 7,
    }
}

#[test]
fn a_first_join_takes_exactly_two_requests() {
    let now = beginning();
    let mut member = Member::new(config(), now);
    assert!(matches!(member.poll(), Some(Output::Connect { .. })));
    member.connected(now);
    let Some(Output::Send {
        ticket,
        request: Request::Join { member_id, .. },
        ..
    }) = member.poll()
    else {
        panic!()
    };
    assert_eq!(member_id, "");
    let answer = Answer::Join {
        code: 79,
        generation: -1,
        protocol: None,
        leader: String::new(),
        member_id: "m".into(),
        skip_assignment: false,
        members: vec![],
    };
    member.answered(ticket, Ok(answer), now);
    let Some(Output::Send {
        ticket,
        request: Request::Join {
            member_id, protocols, ..
        },
        ..
    }) = member.poll()
    else {
        panic!()
    };
    assert_eq!(member_id, "m");
    let members = vec![JoinedMember {
        id: "m".into(),
        instance_id: None,
        subscription: protocols[0].1.clone(),
    }];
    let answer = Answer::Join {
        code: 0,
        generation: 1,
        protocol: Some("range".into()),
        leader: "m".into(),
        member_id: "m".into(),
        skip_assignment: false,
        members,
    };
    member.answered(ticket, Ok(answer), now);
    assert!(matches!(member.poll(), Some(Output::Describe(_))));
    member.topics(&BTreeMap::from([(Arc::from("t"), 2)]), now);
    let Some(Output::Send {
        ticket,
        request: Request::Sync { assignments, .. },
        ..
    }) = member.poll()
    else {
        panic!()
    };
    let mine = encode_assignment(&BTreeMap::from([(Arc::from("t"), vec![0, 1])]));
    assert_eq!(assignments, [("m".to_owned(), mine.clone())]);
    member.answered(
        ticket,
        Ok(Answer::Sync {
            code: 0,
            assignment: mine,
        }),
        now,
    );
    assert!(matches!(member.poll(), Some(Output::Assign { partitions, .. }) if partitions.len() == 2));
    assert_eq!(member.valid_until(), Some(now + config().session_timeout));
}
