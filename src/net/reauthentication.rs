//! Says anew who we are before a session ends (KIP-368), without a request being lost over it.
//!
//! Credentials are prepared beforehand, while requests come and go. Only for the exchange itself nothing else may be written;
//! what was written before is answered first. A broker takes the exchange also when the session is over, but then no other
//! request: so an idle connection is renewed when somebody wants to use it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_protocol::protocol::Request;

use super::{
    NetConfig,
    authentication::{Carrier, authenticate},
    connection::Shared,
    handshake::random,
    prover::{Identity, Proof, Prover},
    session::{Granted, Session, Turn},
    transport::Writer,
};
use crate::{
    deadline::{Deadline, FOR_EVER, Waited},
    error::{Error, ErrorKind, Result},
    thread::Worker,
    wire::versions::Versions,
};

/// What a connection that many call over holds for a renewal.
#[derive(Debug)]
pub(super) struct Renewals {
    identity: Identity,
    /// For credentials.
    timeout: Duration,
    /// Credentials are there: it helps to write nothing until all is answered.
    wants_quiet: AtomicBool,
    /// Rung when all is answered, or when somebody is held.
    ring: Sender<()>,
    rung: Receiver<()>,
}

/// What the writer's lock guards: whether it may be used now, and itself.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) writer: Writer,
    pub(super) session: Session,
    /// Disconnects when the renewal that has begun is over.
    pub(super) renewal: Option<Receiver<()>>,
}

impl Renewals {
    pub(super) fn new(identity: Identity, config: &NetConfig) -> Self {
        let (ring, rung) = bounded(1); // one is as good as many
        Self {
            identity,
            timeout: config.connect_timeout,
            wants_quiet: AtomicBool::new(false),
            ring,
            rung,
        }
    }

    pub(super) fn wants_quiet(&self) -> bool {
        self.wants_quiet.load(Ordering::SeqCst)
    }

    /// All is answered.
    pub(super) fn is_quiet(&self) {
        if self.wants_quiet() {
            self.hurry();
        }
    }

    /// Somebody cannot write before the session is renewed.
    pub(super) fn hurry(&self) {
        self.ring.try_send(()).ok();
    }

    /// Begins on a thread of its own. What it gives disconnects when that is over.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Receiver<()>> {
        let (over, renewal) = bounded(0); // nothing is sent
        let shared = Arc::clone(shared);
        let mine = renewal.clone();
        Worker::start("klamm-renew", move || {
            let renewal = Renewing {
                shared,
                mine,
                _over: over,
            };
            if let Some(renewals) = &renewal.shared.renewals {
                renewal.run(renewals);
            }
        })?;
        Ok(renewal)
    }
}

/// A renewal under way. However its thread ends, nobody is left behind at the door.
struct Renewing {
    shared: Arc<Shared>,
    /// What those at the door wait for.
    mine: Receiver<()>,
    /// Dropped last.
    _over: Sender<()>,
}

impl Renewing {
    fn run(&self, renewals: &Renewals) {
        match self.prepare(renewals) {
            Ok(proof) => match self.renew(proof, renewals) {
                Ok(granted) => self.renewed(granted, renewals),
                Err(error) => self.lost(&error),
            },
            Err(error) => {
                let has_time = self.shared.door.lock().session.put_off(now());
                if !has_time || self.shared.ended.is_stopped() {
                    return self.lost(&error);
                }
                let peer = &self.shared.peer;
                log::debug!("credentials for {peer} will be asked for again before the session ends: {error}");
            }
        }
    }

    fn prepare(&self, renewals: &Renewals) -> Result<Proof> {
        Prover::start(&renewals.identity)?.first(&self.limit(renewals.timeout))
    }

    fn limit(&self, timeout: Duration) -> Deadline {
        Deadline::after(timeout, "connect_timeout").with_stop(&self.shared.ended)
    }

    fn renew(&self, proof: Proof, renewals: &Renewals) -> Result<Granted> {
        let shared = &self.shared;
        let not_before = shared.door.lock().session.prepared(now());
        renewals.wants_quiet.store(true, Ordering::SeqCst);
        let until_over = self.limit(FOR_EVER);
        if !shared.is_quiet() {
            until_over.wait(&renewals.rung);
        }
        let pause = not_before.saturating_duration_since(now());
        until_over.pause(pause, "the broker to allow for another renewal")?;
        // Whoever has the lock is writing, and has done so to the end when this has it.
        shared.door.lock().session.renewing();
        let limit = self.limit(renewals.timeout);
        let limit = || limit.clone();
        authenticate(proof, &mut PastTheDoor(shared), &shared.versions, &limit)
    }

    fn renewed(&self, granted: Granted, renewals: &Renewals) {
        renewals.identity.accepted(now());
        // Whoever finds the session fresh may begin the next renewal, whose wish this is from then on.
        renewals.wants_quiet.store(false, Ordering::SeqCst);
        self.shared.door.lock().session.renewed(granted, now(), random());
        tell(&self.shared.peer, granted);
    }

    /// For those whose requests are on their way, the connection is lost. The next one shows what is wrong.
    fn lost(&self, error: &Error) {
        // Not of one that has ended meanwhile, as an idle one may.
        if !self.shared.is_over() {
            log::warn!(
                "the session with {} could not be renewed, and the connection is given up: {error}",
                self.shared.peer
            );
        }
        self.shared.end(lost(error));
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "the thread that renews a session panicked; see the log";
            self.shared.end(Error::new(ErrorKind::Internal, message));
        }
        let mut door = self.shared.door.lock();
        // The next one may have begun already.
        let is_mine = |renewal: &Receiver<()>| renewal.same_channel(&self.mine);
        if !door.renewal.as_ref().is_some_and(is_mine) {
            return;
        }
        door.renewal = None;
        if let Some(renewals) = &self.shared.renewals {
            renewals.wants_quiet.store(false, Ordering::SeqCst);
        }
    }
}

/// The same for who reads and writes on one thread, with nothing on its way when it asks.
#[derive(Debug)]
pub(crate) struct OwnSession {
    session: Session,
    identity: Option<Identity>,
    prover: Option<Prover>,
}

impl OwnSession {
    pub(crate) fn new(session: Session, identity: Option<Identity>) -> Self {
        Self {
            session,
            identity,
            prover: None,
        }
    }

    /// Whether there is anything to do for it.
    pub(crate) fn ends(&self) -> bool {
        self.session.ends()
    }

    /// Whether the next request has to wait until it is renewed: credentials are there, or there is no time left.
    pub(crate) fn is_pressing(&self) -> bool {
        self.prover.as_ref().is_some_and(Prover::is_ready) || self.session.is_over(now)
    }

    /// Before each request: what must be proven first, if it is time for that. Waits only where there is none left.
    pub(crate) fn due(&mut self, deadline: &Deadline) -> Result<Option<Proof>> {
        let hold = match self.session.turn(now) {
            Turn::Go if !self.session.is_preparing() => return Ok(None),
            Turn::Go => false,
            Turn::Hold => true,
            Turn::Prepare { hold } => match self.identity.as_ref().map(Prover::start).transpose() {
                Ok(prover) => {
                    self.prover = prover;
                    hold
                }
                Err(error) => return self.put_off(&error),
            },
        };
        let Some(prover) = self.prover.take_if(|prover| hold || prover.is_ready()) else {
            return Ok(None);
        };
        let proof = match prover.first(deadline) {
            Ok(proof) => proof,
            Err(error) => return self.put_off(&error),
        };
        let pause = self.session.prepared(now()).saturating_duration_since(now());
        deadline.pause(pause, "the broker to allow for another renewal")?;
        Ok(Some(proof))
    }

    fn put_off(&mut self, error: &Error) -> Result<Option<Proof>> {
        if !self.session.put_off(now()) {
            return Err(lost(error));
        }
        log::debug!("credentials will be asked for again before the session ends: {error}");
        Ok(None)
    }

    /// Proves it. An error is one of a connection that is lost.
    pub(crate) fn renew(
        &mut self,
        proof: Proof,
        carrier: &mut impl Carrier,
        versions: &Versions,
        deadline: &Deadline,
    ) -> Result<Granted> {
        self.session.renewing();
        let limit = || deadline.clone();
        let granted = authenticate(proof, carrier, versions, &limit).map_err(|error| lost(&error))?;
        self.session.renewed(granted, now(), random());
        if let Some(identity) = &self.identity {
            identity.accepted(now());
        }
        Ok(granted)
    }
}

/// What becomes of a connection whose broker does not believe us any more.
fn lost(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Closed => error.clone(),
        _ => Error::new(ErrorKind::Io, "the session could not be renewed").explained(&error.reason()),
    }
}

pub(crate) fn tell(peer: &str, granted: Granted) {
    match granted.lifetime {
        Some(lifetime) => log::debug!("the session with {peer} was renewed for {lifetime:?}"),
        None => log::debug!("the session with {peer} was renewed for good"),
    }
}

/// Requests of a renewal, past those that wait for its end.
pub(super) struct PastTheDoor<'a>(pub(super) &'a Arc<Shared>);

impl Carrier for PastTheDoor<'_> {
    fn carry<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.0.call_past_the_door(request, version)
    }
}

/// How a wait for a renewal's end came out for somebody who wants to write.
pub(super) fn held(waited: Waited<()>, deadline: &Deadline) -> Result<()> {
    match waited {
        Waited::Got(()) | Waited::Gone => Ok(()),
        Waited::TimedOut => Err(deadline.error("the session to be renewed")),
        Waited::Stopped => deadline.check("the session to be renewed"),
    }
}

#[allow(clippy::disallowed_methods, reason = "a driver: sessions end by the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{
            MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
            SaslHandshakeResponse,
        },
        protocol::{Decodable, Encodable},
    };

    use super::*;
    use crate::net::{
        Address, Connection,
        sasl::{BoxError, Exchange, Mechanism, Peer, Sasl, Step},
        scripted::{Broker, everything},
        tests::wait_until,
    };

    /// Has credentials but for the calls whose numbers are told.
    struct Moody {
        fails: &'static [usize],
        calls: Arc<AtomicUsize>,
    }

    impl Mechanism for Moody {
        fn name(&self) -> &str {
            "MOODY"
        }

        fn begin(&self, _: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
            match self.fails.contains(&self.calls.fetch_add(1, Ordering::SeqCst)) {
                true => Err("not now".into()),
                false => Ok(Box::new(Once)),
            }
        }
    }

    struct Once;

    impl Exchange for Once {
        fn first(&mut self) -> Result<Vec<u8>, BoxError> {
            Ok(vec![1])
        }

        fn next(&mut self, _: &[u8]) -> Result<Step, BoxError> {
            Ok(Step::Done)
        }
    }

    /// A broker that believes everybody for ten minutes, or nobody.
    #[derive(Default)]
    struct Believing {
        refuses: bool,
        asked: Vec<i16>,
    }

    impl Carrier for Believing {
        fn carry<R: Request>(&mut self, _: &R, version: i16) -> Result<R::Response> {
            self.asked.push(R::KEY);
            let mut bytes = BytesMut::new();
            match R::KEY {
                SaslHandshakeRequest::KEY => SaslHandshakeResponse::default().encode(&mut bytes, version),
                _ => SaslAuthenticateResponse::default()
                    .with_session_lifetime_ms(600_000)
                    .with_error_code(if self.refuses { 58 } else { 0 })
                    .encode(&mut bytes, version),
            }
            .unwrap();
            Ok(R::Response::decode(&mut bytes, version).unwrap())
        }
    }

    fn with(fails: &'static [usize]) -> (NetConfig, Arc<AtomicUsize>) {
        let calls = Arc::default();
        let config = NetConfig {
            sasl: Some(Sasl::custom(Moody {
                fails,
                calls: Arc::clone(&calls),
            })),
            ..NetConfig::default()
        };
        (config, calls)
    }

    fn session(fails: &'static [usize]) -> (OwnSession, Arc<AtomicUsize>) {
        let (config, calls) = with(fails);
        (session_of(&config), calls)
    }

    fn session_of(config: &NetConfig) -> OwnSession {
        let granted = Granted {
            lifetime: Some(Duration::from_secs(600)),
            since: now(),
        };
        let session = Session::new(granted, 50, Duration::ZERO);
        OwnSession::new(session, Identity::of(config, &Address::new("broker", 9092)))
    }

    const DUE: Duration = Duration::from_secs(550);
    const OVER: Duration = Duration::from_secs(590);

    fn long() -> Deadline {
        Deadline::after(Duration::from_secs(60), "the test's limit")
    }

    fn renew(own: &mut OwnSession, proof: Proof, broker: &mut Believing) -> Result<Granted> {
        own.renew(proof, broker, &Versions::new(&everything()), &long())
    }

    #[test]
    fn whoever_is_believed_again_is_believed() {
        let (config, _) = with(&[]);
        let elsewhere = || {
            let (address, now) = (Address::new("another", 9092), now());
            config
                .standing
                .refused(&address, Error::refused(58), now, now)
                .is_retriable()
        };
        assert!(!elsewhere());
        let mut own = session_of(&config);
        own.session.age(OVER);
        let proof = own.due(&long()).unwrap().unwrap();
        renew(&mut own, proof, &mut Believing::default()).unwrap();
        assert!(elsewhere());
    }

    #[test]
    fn credentials_are_prepared_beside_requests_and_proven_between_two_of_them() {
        let (mut own, calls) = session(&[]);
        assert!(own.due(&long()).unwrap().is_none());
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        own.session.age(DUE);
        // Which may be at once.
        let mut proof = own.due(&long()).unwrap();
        wait_until(|| calls.load(Ordering::SeqCst) == 1);
        if proof.is_none() {
            wait_until(|| own.is_pressing());
            proof = own.due(&long()).unwrap();
        }
        let mut broker = Believing::default();
        renew(&mut own, proof.unwrap(), &mut broker).unwrap();
        assert_eq!(broker.asked, [SaslHandshakeRequest::KEY, SaslAuthenticateRequest::KEY]);
        assert!(own.due(&long()).unwrap().is_none());
        // At its end there is no time to go on meanwhile.
        assert!(!own.is_pressing());
        own.session.age(OVER);
        assert!(own.is_pressing());
        let proof = own.due(&long()).unwrap().unwrap();
        renew(&mut own, proof, &mut broker).unwrap();
        assert_eq!((broker.asked.len(), calls.load(Ordering::SeqCst)), (4, 2));
    }

    #[test]
    fn credentials_that_cannot_be_had_are_a_lost_connection_only_at_the_session_s_end() {
        let (mut own, calls) = session(&[0, 1]);
        own.session.age(DUE);
        assert!(own.due(&long()).unwrap().is_none());
        wait_until(|| calls.load(Ordering::SeqCst) == 1);
        while own.session.is_preparing() {
            assert!(own.due(&long()).unwrap().is_none());
        }
        own.session.age(OVER);
        let error = own.due(&long()).unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Io, true));
        assert!(error.to_string().contains("MOODY failed: not now"), "{error}");
    }

    #[test]
    fn a_renewal_that_is_refused_is_a_lost_connection() {
        let (mut own, _) = session(&[]);
        own.session.age(OVER);
        let proof = own.due(&long()).unwrap().unwrap();
        let mut broker = Believing {
            refuses: true,
            ..Believing::default()
        };
        let error = renew(&mut own, proof, &mut broker).unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Io, true));
        assert!(error.to_string().contains("code 58"), "{error}");
    }

    /// A connection to a broker that believes everybody for ten minutes.
    fn connected() -> (Broker, Connection) {
        let broker = Broker::serve(|asked| {
            Some(match asked.key {
                SaslHandshakeRequest::KEY => asked.answer::<SaslHandshakeRequest>(&SaslHandshakeResponse::default()),
                _ => {
                    let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(600_000);
                    asked.answer::<SaslAuthenticateRequest>(&answer)
                }
            })
        });
        let connection = Connection::open(&broker.address, &with(&[]).0, &long()).unwrap();
        (broker, connection)
    }

    #[test]
    fn a_renewal_that_is_over_takes_nothing_from_the_one_that_has_begun_since() {
        let (_broker, connection) = connected();
        let shared = connection.shared();
        let renewals = shared.renewals.as_ref().unwrap();
        let begin = || {
            let (over, mine) = bounded(0);
            shared.door.lock().renewal = Some(mine.clone());
            Renewing {
                shared: Arc::clone(shared),
                mine,
                _over: over,
            }
        };
        let [first, second] = [begin(), begin()];
        renewals.wants_quiet.store(true, Ordering::SeqCst);
        drop(first);
        assert!(connection.is_renewing() && connection.wants_quiet());
        drop(second);
        assert!(!connection.is_renewing() && !connection.wants_quiet());
    }

    #[test]
    fn who_is_held_while_nobody_renews_meets_a_broken_connection_and_not_one_that_we_closed() {
        let (_broker, connection) = connected();
        connection.shared().door.lock().session.prepared(now());
        connection.age(OVER);
        let error = connection.call(&MetadataRequest::default(), &long()).unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Io, true));
        assert!(connection.is_dead());
    }
}
