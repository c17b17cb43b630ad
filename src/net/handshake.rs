//! From an address to a connection that can be used: TCP, then what the broker speaks, then who we are.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io::{self, IoSlice, Read},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{ApiVersionsRequest, ApiVersionsResponse},
    protocol::{Request, StrBytes},
};

use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{
        Address, NetConfig,
        authentication::{Carrier, authenticate},
        prover::{Identity, Prover},
        session::{Granted, Session},
        transport::{self, Hangup, Reader, Writer},
    },
    wire::{api, frame, request, versions::Versions},
};

/// A connection ready for requests, in parts: whoever reads and writes on one thread uses them as they are.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) hangup: Hangup,
    pub(crate) versions: Arc<Versions>,
    /// The broker's address, as it was dialled.
    pub(crate) peer: Arc<str>,
    /// For how long it believes us.
    pub(crate) session: Session,
    /// Who we are to it; None where it does not ask.
    pub(crate) identity: Option<Identity>,
}

/// Dials, introduces itself and proves who it is, all within `connect_timeout` and the deadline. Its errors name the
/// address. A broker that has just refused us is not asked again at once.
pub(crate) fn open(address: &Address, config: &NetConfig, deadline: &Deadline) -> Result<Opened> {
    let peer: Arc<str> = address.to_string().into();
    let deadline = deadline.at_most(config.connect_timeout, "connect_timeout");
    let open = || {
        let began = config.standing.may_try(address, now())?;
        let opened = introduce(address, config, &deadline, &peer, began)?;
        config.standing.accepted(address, now());
        Ok(opened)
    };
    open().map_err(|error: Error| error.at_broker(&peer))
}

fn introduce(
    address: &Address,
    config: &NetConfig,
    deadline: &Deadline,
    peer: &Arc<str>,
    began: Instant,
) -> Result<Opened> {
    let (reader, writer, hangup) = transport::connect(address, &config.socket, deadline)?;
    let hang_up = || {
        let hangup = hangup.clone();
        move || hangup.shutdown()
    };
    let _waking: Vec<_> = deadline.stops().iter().map(|stop| stop.on_stop(hang_up())).collect();
    #[cfg(feature = "tls")]
    let (reader, writer, hangup) = match &config.tls {
        Some(tls) => transport::secure((reader, writer, hangup), tls, &address.host, deadline)
            .map_err(|error| refused(error, address, config, began))?,
        None => (reader, writer, hangup),
    };
    let mut talk = Talk {
        reader,
        writer,
        config,
        deadline,
        next_id: 0,
    };
    // A broker that does not want a client's certificate says so only now.
    let versions = ask_versions(&mut talk).map_err(|error| refused(error, address, config, began))?;
    let identity = Identity::of(config, address);
    let session = match &identity {
        Some(identity) => {
            let granted = prove(identity, &mut talk, &versions)?;
            let granted = granted.map_err(|error| refused(error, address, config, began))?;
            Session::new(granted, random(), config.renewal_pause)
        }
        None => Session::endless(),
    };
    let Talk { reader, writer, .. } = talk;
    reader
        .set_read_timeout(None)
        .map_err(|error| Error::io("preparing the socket", error))?;
    Ok(Opened {
        reader,
        writer,
        hangup,
        versions: Arc::new(versions),
        peer: Arc::clone(peer),
        session,
        identity,
    })
}

/// Credentials first: a broker that is kept waiting for them may lose its patience. What it says to them lies within.
fn prove(identity: &Identity, talk: &mut Talk<'_>, versions: &Versions) -> Result<Result<Granted>> {
    let (config, deadline) = (talk.config, talk.deadline);
    let proof = Prover::start(identity)
        .and_then(|prover| prover.first(deadline))
        .map_err(|error| config.standing.unprepared(error))?;
    Ok(authenticate(proof, talk, versions, &|| deadline.clone()))
}

/// One side does not believe the other, for now or for good.
fn refused(error: Error, address: &Address, config: &NetConfig, began: Instant) -> Error {
    if error.kind() != ErrorKind::Authentication {
        return error;
    }
    // With the address, which the next one who asks too soon is told as well.
    let error = error.at_broker(&address.to_string());
    config.standing.refused(address, error, began, now())
}

/// Spreads what many connections would do at the same time.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn ask_versions(talk: &mut Talk<'_>) -> Result<Versions> {
    let mut answer = ask_versions_at(talk, PREFERRED)?;
    if answer.error_code == ResponseError::UnsupportedVersion.code() {
        // Brokers since 2.4 say which versions of this very request they know; older ones know version 0.
        let known = answer
            .api_keys
            .iter()
            .find(|api| api.api_key == ApiVersionsRequest::KEY);
        let version = known.map_or(0, |api| api.max_version.clamp(0, PREFERRED - 1));
        answer = ask_versions_at(talk, version)?;
    }
    match answer.error_code {
        0 => Ok(Versions::new(&answer)),
        code => Err(Error::refused(code).in_api(api::name(ApiVersionsRequest::KEY))),
    }
}

/// The first that carries the client's name. Later ones only tell more about features.
const PREFERRED: i16 = 3;

fn ask_versions_at(talk: &mut Talk<'_>, version: i16) -> Result<ApiVersionsResponse> {
    let name = StrBytes::from_static_str(env!("CARGO_PKG_NAME"));
    let number = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
    let request = match version {
        3.. => ApiVersionsRequest::default()
            .with_client_software_name(name)
            .with_client_software_version(number),
        _ => ApiVersionsRequest::default(),
    };
    let answer = talk.ask(&request, version)?;
    // A broker that does not know the version answers in the shape of version 0.
    let refused = answer.get(4..6) == Some(&ResponseError::UnsupportedVersion.code().to_be_bytes());
    request::decode::<ApiVersionsRequest>(if refused { 0 } else { version }, answer)
}

/// One request at a time, on the thread that dials.
struct Talk<'a> {
    reader: Reader,
    writer: Writer,
    config: &'a NetConfig,
    deadline: &'a Deadline,
    next_id: i32,
}

impl Carrier for Talk<'_> {
    fn carry<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let answer = self.ask(request, version)?;
        request::decode::<R>(version, answer)
    }
}

impl Talk<'_> {
    fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = request::encode_secret(request, version, id, &self.config.client_id)?;
        let name = api::name(R::KEY);
        self.exchange(&frame, id, name).map_err(|error| {
            // Whatever broke, a stop or the deadline is the reason if it has come.
            let waited_for = format!("the broker to answer {name}");
            let error = self.deadline.check(&waited_for).err().unwrap_or(error);
            error.in_api(name)
        })
    }

    fn exchange(&mut self, bytes: &[u8], id: i32, name: &str) -> Result<Bytes> {
        let written = self.writer.write_frame(&mut [IoSlice::new(bytes)], self.deadline);
        let mut reader = Timed {
            reader: &mut self.reader,
            deadline: self.deadline,
        };
        if let Err(unfinished) = written {
            let error = unfinished.error;
            // Who refuses a client's certificate says so and hangs up, perhaps before anything is asked.
            let told = (error.kind() == ErrorKind::Io).then(|| frame::read(&mut reader, self.config.frame_limit).err());
            let told = told.flatten().filter(|told| told.kind() == ErrorKind::Authentication);
            return Err(told.unwrap_or(error));
        }
        let Some(answer) = frame::read(&mut reader, self.config.frame_limit)? else {
            let hint = match name {
                "ApiVersions" if !self.config.is_encrypted() => "; does the port expect TLS?",
                _ => "",
            };
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("the other side closed the connection instead of answering {name}{hint}"),
            ));
        };
        match request::correlation_id(&answer)? {
            answered if answered == id => Ok(answer),
            answered => Err(Error::protocol(format!(
                "an answer to request {answered} came where request {id} was asked"
            ))),
        }
    }
}

/// Reads no longer than the deadline.
struct Timed<'a> {
    reader: &'a mut Reader,
    deadline: &'a Deadline,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.deadline.remaining();
        if remaining.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reader.set_read_timeout(Some(remaining))?;
        self.reader.read(buffer)
    }
}

#[allow(clippy::disallowed_methods, reason = "a driver: who was refused waits by the clock")]
fn now() -> Instant {
    Instant::now()
}
