//! What a broker's error code means for a batch.

use kafka_protocol::{ResponseError, messages::produce_response::PartitionProduceResponse};

use super::queue::{Appended, Verdict};
use crate::{
    cluster::{Action, action},
    error::{Error, ErrorKind},
};

/// What was answered about one batch.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) verdict: Verdict,
    /// Whether asking who leads the partition may help.
    pub(super) refresh: bool,
    /// Records that the broker named as the ones at fault, by their place in the batch.
    pub(super) faulty: Vec<(u32, Error)>,
}

impl Answer {
    fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            refresh: false,
            faulty: Vec::new(),
        }
    }
}

/// Of a batch of so many records.
pub(crate) fn answer(told: &PartitionProduceResponse, records: u32) -> Answer {
    use ResponseError as E;
    let code = told.error_code;
    if code == 0 {
        return Answer::plain(Verdict::Appended(Appended {
            offset: Some(told.base_offset).filter(|first| *first >= 0 && has_room_behind(*first, records)),
            timestamp: (told.log_append_time_ms >= 0).then_some(told.log_append_time_ms),
        }));
    }
    let error = explained(Error::refused(code), told);
    match E::try_from_code(code) {
        // It is there, too long ago for the broker to know where.
        Some(E::DuplicateSequenceNumber) => Answer::plain(Verdict::Appended(Appended {
            offset: None,
            timestamp: None,
        })),
        Some(
            E::OutOfOrderSequenceNumber
            | E::UnknownProducerId
            | E::InvalidProducerEpoch
            | E::ProducerFenced
            | E::InvalidProducerIdMapping,
        ) => Answer::plain(Verdict::OutOfSequence(error)),
        Some(E::MessageTooLarge | E::RecordListTooLarge) if records > 1 => Answer::plain(Verdict::TakeApart(error)),
        Some(E::MessageTooLarge | E::RecordListTooLarge) => Answer::plain(Verdict::Refused {
            error: error.explained("the topic's max.message.bytes says how long a record may be"),
            maybe_applied: false,
        }),
        Some(E::InvalidRecord | E::InvalidTimestamp) => {
            let faulty = faulty(told, records, code);
            let is_part = !faulty.is_empty() && faulty.len() < records as usize;
            let verdict = if is_part {
                Verdict::TakeApart(error)
            } else {
                Verdict::Refused {
                    error,
                    maybe_applied: false,
                }
            };
            Answer {
                verdict,
                refresh: false,
                faulty,
            }
        }
        known => {
            let maybe_applied = !known.is_some_and(is_certain);
            let helps = action(&error);
            let verdict = match helps {
                Action::Fail => Verdict::Refused { error, maybe_applied },
                _ => Verdict::Retry { error, maybe_applied },
            };
            Answer {
                verdict,
                refresh: matches!(helps, Action::Refresh | Action::Reconnect),
                faulty: Vec::new(),
            }
        }
    }
}

/// No log has its records beyond the last offset there can be: such an answer tells no place.
fn has_room_behind(first: i64, records: u32) -> bool {
    first.checked_add(i64::from(records)).is_some()
}

/// Said before anything is appended. All other errors may come when the leader has the batch already, and waits for its
/// followers.
fn is_certain(code: ResponseError) -> bool {
    use ResponseError as E;
    matches!(
        code,
        E::CorruptMessage
            | E::MessageTooLarge
            | E::RecordListTooLarge
            | E::InvalidTopicException
            | E::NotEnoughReplicas
            | E::InvalidRequiredAcks
            | E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
            | E::UnsupportedVersion
            | E::UnsupportedForMessageFormat
            | E::UnsupportedCompressionType
            | E::PolicyViolation
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::InvalidRequest
            | E::UnknownTopicId
            | E::InconsistentTopicId
    )
}

fn faulty(told: &PartitionProduceResponse, records: u32, code: i16) -> Vec<(u32, Error)> {
    let named = told.record_errors.iter().filter_map(|record| {
        let index = u32::try_from(record.batch_index)
            .ok()
            .filter(|index| *index < records)?;
        let error = Error::refused(code);
        Some(match &record.batch_index_error_message {
            Some(why) => (index, error.explained(why)),
            None => (index, error),
        })
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|(index, _)| *index);
    named.dedup_by_key(|(index, _)| *index);
    named
}

fn explained(error: Error, told: &PartitionProduceResponse) -> Error {
    match &told.error_message {
        Some(why) if !why.is_empty() => error.explained(why),
        _ => error,
    }
}

/// The connection ended before the answer came: nobody knows what the broker has.
pub(super) fn unanswered(error: Error) -> Answer {
    // Whatever ended it, another connection may do better; the delivery timeout bounds that.
    let refresh = error.kind() != ErrorKind::Closed;
    Answer {
        verdict: Verdict::Retry {
            error,
            maybe_applied: true,
        },
        refresh,
        faulty: Vec::new(),
    }
}

/// The answer left this batch out.
pub(super) fn left_out() -> Answer {
    unanswered(Error::protocol("the broker's answer leaves a batch out").in_api("Produce"))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{messages::produce_response::BatchIndexAndErrorMessage, protocol::StrBytes};

    use super::*;

    fn told(code: i16) -> PartitionProduceResponse {
        PartitionProduceResponse::default()
            .with_error_code(code)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
    }

    #[test]
    fn success_tells_where_the_batch_is() {
        let answer = answer(&told(0).with_base_offset(7), 3);
        let Verdict::Appended(appended) = answer.verdict else {
            panic!("{answer:?}");
        };
        assert_eq!((appended.offset, appended.timestamp), (Some(7), None));
    }

    #[test]
    fn a_place_beyond_the_last_offset_is_none() {
        for (offset, known) in [
            (i64::MAX - 3, true),
            (i64::MAX - 2, false),
            (i64::MAX, false),
            (-2, false),
        ] {
            let Verdict::Appended(appended) = answer(&told(0).with_base_offset(offset), 3).verdict else {
                panic!("{offset} is not taken for an append");
            };
            assert_eq!(appended.offset, known.then_some(offset));
        }
    }

    #[test]
    fn what_is_said_after_the_append_leaves_the_outcome_open() {
        for code in [-1, 3, 6, 7, 20, 56, 9_999] {
            match answer(&told(code), 1).verdict {
                Verdict::Retry { maybe_applied, .. } | Verdict::Refused { maybe_applied, .. } => {
                    assert!(maybe_applied, "{code}");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_said_before_the_append_is_certain() {
        for code in [2, 19, 29, 31] {
            match answer(&told(code), 1).verdict {
                Verdict::Retry { maybe_applied, .. } | Verdict::Refused { maybe_applied, .. } => {
                    assert!(!maybe_applied, "{code}");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_batch_that_is_too_large_is_taken_apart_unless_it_is_one_record() {
        assert!(matches!(answer(&told(10), 2).verdict, Verdict::TakeApart(_)));
        assert!(matches!(
            answer(&told(10), 1).verdict,
            Verdict::Refused {
                maybe_applied: false,
                ..
            }
        ));
    }

    #[test]
    fn only_the_records_that_the_broker_names_are_at_fault() {
        let named = |index: i32| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(Some(StrBytes::from_static_str("from tomorrow")))
        };
        let told = told(32).with_record_errors(vec![named(1), named(1), named(-4), named(77)]);
        let answer = answer(&told, 3);
        assert!(matches!(answer.verdict, Verdict::TakeApart(_)));
        assert_eq!(answer.faulty.len(), 1);
        assert_eq!(answer.faulty[0].0, 1);
        assert!(answer.faulty[0].1.to_string().contains("from tomorrow"));
    }

    #[test]
    fn a_broker_that_lists_no_record_refuses_them_all() {
        assert!(matches!(answer(&told(87), 3).verdict, Verdict::Refused { .. }));
    }
}
