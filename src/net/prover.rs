//! Runs a program's [`Mechanism`](super::sasl::Mechanism) on a thread of its own: it may take its time, or panic, and no
//! connection's lock or deadline shall suffer from it.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use zeroize::Zeroizing;

use super::{
    Address, NetConfig,
    sasl::{BoxError, Passing, Peer, Sasl, Step},
    standing::Standing,
};
use crate::{
    deadline::{Deadline, Waited},
    error::{Error, ErrorKind, Result},
    stop::Stop,
    thread::Worker,
};

/// Who we are to one broker.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    sasl: Sasl,
    address: Address,
    is_encrypted: bool,
    standing: Arc<Standing>,
}

impl Identity {
    /// None without credentials.
    pub(crate) fn of(config: &NetConfig, address: &Address) -> Option<Self> {
        Some(Self {
            sasl: config.sasl.clone()?,
            address: address.clone(),
            is_encrypted: config.is_encrypted(),
            standing: Arc::clone(&config.standing),
        })
    }

    /// The broker believes us once more.
    pub(super) fn accepted(&self, now: Instant) {
        self.standing.accepted(&self.address, now);
    }
}

/// An exchange that is being made, or has been.
#[derive(Debug)]
pub(crate) struct Prover {
    mechanism: String,
    said: Receiver<Result<Step, BoxError>>,
    challenges: Sender<Bytes>,
    worker: Worker,
}

/// One whose first message is there.
pub(crate) struct Proof {
    pub(super) prover: Prover,
    /// A password or a token may be in it.
    pub(super) first: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({}, {} bytes)", self.prover.mechanism, self.first.len())
    }
}

impl Prover {
    /// Begins, and returns at once. The thread ends with the exchange, or when this is dropped and the program's code
    /// comes back.
    pub(crate) fn start(identity: &Identity) -> Result<Self> {
        let underway = identity.standing.begin()?;
        let (tell, said) = bounded(1); // the answer to one challenge
        let (challenges, asked) = bounded(1); // which comes when that was taken
        let identity = identity.clone();
        let mechanism = identity.sasl.mechanism().name().to_owned();
        let worker = Worker::start("klamm-prove", move || {
            let _underway = underway;
            prove(&identity, &tell, &asked);
        })?;
        Ok(Self {
            mechanism,
            said,
            challenges,
            worker,
        })
    }

    pub(super) fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// Whether [`first`](Self::first) returns at once.
    pub(crate) fn is_ready(&self) -> bool {
        !self.said.is_empty() || self.worker.is_over()
    }

    /// Waits until credentials are there.
    pub(crate) fn first(self, deadline: &Deadline) -> Result<Proof> {
        match self.wait(deadline)? {
            Step::Send(first) => Ok(Proof {
                prover: self,
                first: Zeroizing::new(first),
            }),
            Step::Done => Err(self.failed("it had nothing to say")),
        }
    }

    /// What follows this answer of the broker's.
    pub(super) fn next(&self, challenge: Bytes, deadline: &Deadline) -> Result<Step> {
        // Should its thread be over, that shows below.
        self.challenges.try_send(challenge).ok();
        self.wait(deadline)
    }

    fn wait(&self, deadline: &Deadline) -> Result<Step> {
        match deadline.wait(&self.said) {
            Waited::Got(Ok(step)) => Ok(step),
            Waited::Got(Err(error)) => Err(self.failed(&error.to_string()).retriable(error.is::<Passing>())),
            Waited::Gone => Err(self.failed("it panicked; see the log")),
            Waited::TimedOut => Err(deadline.error(&format!("credentials for {}", self.mechanism))),
            Waited::Stopped => Err(deadline.stopped().map_or_else(|| Error::closed("client"), Stop::error)),
        }
    }

    fn failed(&self, why: &str) -> Error {
        let message = format!("the SASL mechanism {} failed", self.mechanism);
        Error::new(ErrorKind::Authentication, message).explained(why)
    }
}

/// The thread, which ends when nobody listens any more.
fn prove(identity: &Identity, tell: &Sender<Result<Step, BoxError>>, challenges: &Receiver<Bytes>) {
    let Identity {
        sasl,
        address,
        is_encrypted,
        ..
    } = identity;
    let peer = Peer::new(&address.host, address.port, *is_encrypted);
    let begun = sasl.mechanism().begin(&peer).and_then(|mut exchange| {
        let first = exchange.first()?;
        Ok((exchange, first))
    });
    let mut exchange = match begun {
        Ok((exchange, first)) => {
            tell.send(Ok(Step::Send(first))).ok();
            exchange
        }
        Err(error) => {
            tell.send(Err(error)).ok();
            return;
        }
    };
    for challenge in challenges {
        let step = exchange.next(&challenge);
        let is_over = !matches!(step, Ok(Step::Send(_)));
        if tell.send(step).is_err() || is_over {
            return;
        }
    }
}
