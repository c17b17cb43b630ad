//! Which broker coordinates a group or a transactional ID.

use kafka_protocol::{messages::FindCoordinatorRequest, protocol::StrBytes};

use crate::{
    cluster::{Action, Broker, Cluster, action, is_over},
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::Ask,
};

/// What is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CoordinatorKey<'a> {
    Group(&'a str),
    Transaction(&'a str),
}

impl Cluster {
    /// Asks who coordinates, until somebody does or time is up.
    pub(crate) fn find_coordinator(&self, key: CoordinatorKey<'_>, deadline: &Deadline) -> Result<Broker> {
        let deadline = &self.listening(deadline);
        let (kind, name, waited_for) = match key {
            CoordinatorKey::Group(name) => (0, name, format!("the coordinator of group {name}")),
            CoordinatorKey::Transaction(name) => (1, name, format!("the coordinator of transactional ID {name}")),
        };
        let mut failures = 0;
        loop {
            let error = match self.ask_coordinator(kind, name, deadline) {
                Ok(broker) => return Ok(broker),
                Err(error) => error,
            };
            if action(&error) == Action::Fail || is_over(&error, deadline) {
                return Err(error);
            }
            failures += 1;
            self.before_retry(failures, &error, &waited_for, deadline)?;
        }
    }

    fn ask_coordinator(&self, kind: i8, name: &str, deadline: &Deadline) -> Result<Broker> {
        let name = StrBytes::from_string(name.to_owned());
        // Version 4 asks for several at once.
        let request = |version: i16| match version {
            4.. => FindCoordinatorRequest::default()
                .with_key_type(kind)
                .with_coordinator_keys(vec![name.clone()]),
            _ => FindCoordinatorRequest::default()
                .with_key_type(kind)
                .with_key(name.clone()),
        };
        let answer = self.call_any(Ask::at_version(&request), deadline)?;
        let (code, message, id, host, port) = match answer.coordinators.into_iter().next() {
            Some(found) => (
                found.error_code,
                found.error_message,
                found.node_id,
                found.host,
                found.port,
            ),
            None => (
                answer.error_code,
                answer.error_message,
                answer.node_id,
                answer.host,
                answer.port,
            ),
        };
        if code != 0 {
            let error = Error::refused(code).in_api("FindCoordinator");
            return Err(match message.filter(|message| !message.is_empty()) {
                Some(message) => error.explained(&message),
                None => error,
            });
        }
        let port = u16::try_from(port).map_err(|_| {
            Error::new(ErrorKind::Protocol, format!("the coordinator's port is {port}")).in_api("FindCoordinator")
        })?;
        Ok(Broker {
            id: id.0,
            host: host.to_string(),
            port,
            rack: None,
        })
    }
}
