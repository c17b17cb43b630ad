//! What an error code of the group's coordinator asks of a member.

use kafka_protocol::ResponseError;

use crate::{
    cluster::{Action, action},
    error::{Error, ErrorKind},
    group::member::MemberConfig,
};

/// The same in the answer to whatever request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Here is your ID; come again with it (KIP-394).
    NamesUs,
    /// The group waits for everybody to join again.
    Rebalance,
    /// The group has gone on without us; it knows us still.
    PastGeneration,
    /// The group has given us up.
    UnknownMember,
    /// Somebody else coordinates this group.
    Elsewhere,
    /// The same again a little later.
    Later,
    /// Only the program can help.
    Final,
}

impl Refusal {
    pub(super) fn of(code: i16) -> Self {
        use ResponseError as E;
        match E::try_from_code(code) {
            Some(E::MemberIdRequired) => Self::NamesUs,
            Some(E::RebalanceInProgress) => Self::Rebalance,
            Some(E::IllegalGeneration) => Self::PastGeneration,
            Some(E::UnknownMemberId) => Self::UnknownMember,
            _ => match action(&Error::refused(code)) {
                Action::Refresh | Action::Reconnect => Self::Elsewhere,
                Action::Wait => Self::Later,
                Action::Fail => Self::Final,
            },
        }
    }
}

/// The error for a code, with what the user can do about it.
pub(super) fn explained(code: i16, api: &'static str, config: &MemberConfig) -> Error {
    advised(Error::refused(code).in_api(api), config)
}

/// The same for an error that may have a code.
pub(super) fn advised(error: Error, config: &MemberConfig) -> Error {
    match error.code().and_then(|code| advice(code, config)) {
        Some(advice) => error.explained(&advice),
        None => error,
    }
}

fn advice(code: i16, config: &MemberConfig) -> Option<String> {
    use ResponseError as E;
    let advice = match E::try_from_code(code)? {
        E::InconsistentGroupProtocol => {
            let ours: Vec<_> = config.assignors.iter().map(|assignor| assignor.name()).collect();
            format!(
                "the other members use none of this one's assignors ({}), or the group is not one of consumers; set \
                 assignors to what they have in common, or take another group",
                ours.join(", ")
            )
        }
        E::InvalidSessionTimeout => format!(
            "session_timeout is {:?}; it must lie within the broker's group.min.session.timeout.ms and \
             group.max.session.timeout.ms",
            config.session_timeout
        ),
        E::InvalidGroupId => "the group needs a name".to_owned(),
        E::GroupAuthorizationFailed => "this user needs the right to read this group".to_owned(),
        E::GroupMaxSizeReached => {
            "the group has as many members as the broker's group.max.size allows; end some, or raise it".to_owned()
        }
        E::FencedInstanceId => format!(
            "another member has joined as instance_id {:?}; each running member needs one of its own",
            config.instance_id.as_deref().unwrap_or_default()
        ),
        E::UnknownMemberId => format!(
            "the group has given this member up, as it does with one that is not heard of for session_timeout ({:?}) or \
             that does not join again within rebalance_timeout ({:?})",
            config.session_timeout, config.rebalance_timeout
        ),
        E::IllegalGeneration => "the group has dealt its partitions out anew, without this member".to_owned(),
        _ => return None,
    };
    Some(advice)
}

/// Whether this ends the membership, although it is not an answer of the group.
pub(super) fn is_final(error: &Error) -> bool {
    if error.kind() == ErrorKind::Authentication {
        return error.is_refusal();
    }
    match error.code() {
        Some(code) => Refusal::of(code) == Refusal::Final,
        // Broken rules, damaged bytes and an idle connection's end are a matter of one connection.
        None => matches!(
            error.kind(),
            ErrorKind::Config
                | ErrorKind::Authorization
                | ErrorKind::Unsupported
                | ErrorKind::WouldDeadlock
                | ErrorKind::Internal
        ),
    }
}
