//! Who we are, told to brokers that believe it, that do not, and that do something else altogether.

mod exchange;
mod mechanisms;
mod refusals;
mod renewal;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded, unbounded};
use kafka_protocol::{
    messages::{
        MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    },
    protocol::{Request, StrBytes},
};
use parking_lot::Mutex;

use super::{ask, echo, long, named, patient, told, wait_until};
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind},
    net::{
        Address, Connection, NetConfig,
        prover::{Identity, Prover},
        sasl::{BoxError, Exchange, Mechanism, Peer, Sasl, Step},
        scripted::{self, Asked, Broker, everything, spawn},
    },
    stop::Stop,
    wire::request,
};

const PASSWORD: &str = "open sesame";

/// Says these words, one after each answer.
struct Words {
    says: &'static [&'static str],
    begun: Arc<Mutex<Vec<String>>>,
}

impl Words {
    fn new(says: &'static [&'static str]) -> Self {
        Self {
            says,
            begun: Arc::default(),
        }
    }
}

impl Mechanism for Words {
    fn name(&self) -> &str {
        "WORDS"
    }

    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        self.begun.lock().push(format!("{peer:?}"));
        Ok(Box::new(Saying(self.says.iter().copied().collect())))
    }
}

struct Saying(VecDeque<&'static str>);

impl Exchange for Saying {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        Ok(self.0.pop_front().ok_or("speechless")?.into())
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError> {
        match self.0.pop_front() {
            _ if challenge == b"impostor" => Err("this is not the broker that it should be".into()),
            Some(word) => Ok(Step::Send(word.into())),
            None => Ok(Step::Done),
        }
    }
}

/// Does what a closure does when it begins.
struct Beginning<F>(F);

impl<F: Fn() -> Result<&'static str, BoxError> + Send + Sync + 'static> Mechanism for Beginning<F> {
    fn name(&self) -> &str {
        "WORDS"
    }

    fn begin(&self, _: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        let word = (self.0)()?;
        Ok(Box::new(Saying([word].into())))
    }
}

fn with(mechanism: impl Mechanism) -> NetConfig {
    NetConfig {
        sasl: Some(Sasl::custom(mechanism)),
        renewal_pause: Duration::ZERO,
        ..patient()
    }
}

fn known() -> NetConfig {
    with(Words::new(&[PASSWORD]))
}

fn open(broker: &Broker, config: &NetConfig) -> Connection {
    Connection::open(&broker.address, config, &long()).unwrap()
}

fn refused(broker: &Broker, config: &NetConfig) -> Error {
    let error = Connection::open(&broker.address, config, &long()).unwrap_err();
    assert_eq!(error.broker(), Some(&*broker.address.to_string()));
    for text in [error.to_string(), format!("{error:?} {config:?}")] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    error
}

fn agrees(asked: &Asked) -> Bytes {
    asked.answer::<SaslHandshakeRequest>(&SaslHandshakeResponse::default())
}

fn grants(asked: &Asked, lifetime_ms: i64) -> Bytes {
    let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(lifetime_ms);
    asked.answer::<SaslAuthenticateRequest>(&answer)
}

fn word(asked: &Asked) -> Vec<u8> {
    asked.body::<SaslAuthenticateRequest>().auth_bytes.to_vec()
}

fn is_handshake(asked: &Asked) -> bool {
    asked.key == SaslHandshakeRequest::KEY
}

fn is_authenticate(asked: &Asked) -> bool {
    asked.key == SaslAuthenticateRequest::KEY
}

/// Believes everybody for so long each time, and repeats names.
fn believing(lifetime_ms: i64) -> impl Fn(&Asked) -> Bytes + Send + Sync + 'static {
    move |asked| match asked {
        _ if is_handshake(asked) => agrees(asked),
        _ if is_authenticate(asked) => grants(asked, lifetime_ms),
        _ => echo(asked),
    }
}

fn call(connection: &Connection, name: &str) -> String {
    told(connection.call(&named(name), &long()).unwrap())
}

fn told_name(asked: &Asked) -> String {
    let request: MetadataRequest = asked.body();
    request.topics.unwrap().remove(0).name.unwrap().to_string()
}

fn three_rounds() -> NetConfig {
    with(Words::new(&["one", "two"]))
}
