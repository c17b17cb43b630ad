//! Brokers for tests: they listen on loopback and do what the test says, right or wrong.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
        api_versions_response::ApiVersion,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Message, Request},
};
use parking_lot::Mutex;

use crate::net::Address;

/// Plays its script to each connection, on a thread of its own, until it is dropped.
pub(crate) struct Broker {
    pub(crate) address: Address,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    closing: AtomicBool,
    peers: Mutex<Vec<TcpStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The other end of one connection.
pub(crate) struct Peer {
    stream: Box<dyn Duplex>,
    /// Counted from 0.
    pub(crate) number: usize,
}

/// What carries the bytes.
pub(crate) trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// A request as it came.
pub(crate) struct Asked {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) id: i32,
    body: Bytes,
}

impl Broker {
    pub(crate) fn start(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared::default());
        let listening = spawn({
            let (shared, script) = (Arc::clone(&shared), Arc::new(script));
            move || {
                for (number, stream) in listener.incoming().enumerate() {
                    if shared.closing.load(Ordering::SeqCst) {
                        return;
                    }
                    let stream = stream.unwrap();
                    shared.accepted.fetch_add(1, Ordering::SeqCst);
                    shared.peers.lock().push(stream.try_clone().unwrap());
                    let script = Arc::clone(&script);
                    let ending = stream.try_clone().unwrap();
                    let stream = Box::new(stream);
                    let thread = spawn(move || {
                        script(Peer { stream, number });
                        ending.shutdown(Shutdown::Both).ok();
                    });
                    shared.threads.lock().push(thread);
                }
            }
        });
        Self {
            address,
            shared,
            listening: Some(listening),
        }
    }

    /// Introduces itself and then answers each request as told; `None` closes the connection.
    pub(crate) fn serve(answer: impl Fn(&Asked) -> Option<Bytes> + Send + Sync + 'static) -> Self {
        Self::start(move |mut peer| {
            peer.introduce();
            while let Some(asked) = peer.request() {
                match answer(&asked) {
                    Some(answer) => peer.send(&answer),
                    None => return,
                }
            }
        })
    }

    /// How often somebody has connected.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        TcpStream::connect((self.address.host.as_str(), self.address.port)).ok();
        self.listening.take().unwrap().join().ok();
        for peer in self.shared.peers.lock().drain(..) {
            peer.shutdown(Shutdown::Both).ok();
        }
        let threads = std::mem::take(&mut *self.shared.threads.lock());
        for thread in threads {
            let result = thread.join();
            if !std::thread::panicking() {
                result.expect("the script of a test failed");
            }
        }
    }
}

impl Peer {
    /// Goes on over something that is made of what carried the bytes so far.
    pub(crate) fn over<T: Duplex + 'static>(self, make: impl FnOnce(Box<dyn Duplex>) -> T) -> Self {
        Self {
            stream: Box::new(make(self.stream)),
            ..self
        }
    }

    pub(crate) fn into_stream(self) -> Box<dyn Duplex> {
        self.stream
    }

    /// Answers ApiVersions with all that the codec knows.
    pub(crate) fn introduce(&mut self) {
        let Some(asked) = self.request() else { return };
        assert_eq!(asked.key, ApiVersionsRequest::KEY);
        self.send(&asked.answer::<ApiVersionsRequest>(&everything()));
    }

    /// The next request; `None` when the connection is over.
    pub(crate) fn request(&mut self) -> Option<Asked> {
        self.request_in_steps(usize::MAX, || {})
    }

    /// The same, read so many bytes at a time, with `between` in between.
    pub(crate) fn request_in_steps(&mut self, step: usize, between: impl Fn()) -> Option<Asked> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).ok()?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(prefix)).unwrap()];
        for part in frame.chunks_mut(step) {
            between();
            self.stream.read_exact(part).ok()?;
        }
        let mut body = Bytes::from(frame);
        let key = i16::from_be_bytes([body[0], body[1]]);
        let version = i16::from_be_bytes([body[2], body[3]]);
        let header_version = ApiKey::try_from(key).unwrap().request_header_version(version);
        let header = RequestHeader::decode(&mut body, header_version).unwrap();
        Some(Asked {
            key,
            version,
            id: header.correlation_id,
            body,
        })
    }

    /// Whatever these bytes are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The other side may have gone, which is what some tests are about.
        self.stream.write_all(bytes).ok();
    }

    /// Reads and forgets, until the other side ends the connection.
    pub(crate) fn wait_for_end(&mut self) {
        self.count_to_end();
    }

    /// The same, and says how many bytes there were.
    pub(crate) fn count_to_end(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        let reads = std::iter::from_fn(|| self.read(&mut buffer));
        reads.sum()
    }

    /// Some of what has come, whatever it is; `None` when the connection is over.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.stream.read(buffer).ok().filter(|got| *got > 0)
    }
}

impl Asked {
    pub(crate) fn body<R: Request>(&self) -> R {
        assert_eq!(self.key, R::KEY);
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }

    /// A whole frame.
    pub(crate) fn answer<R: Request>(&self, response: &R::Response) -> Bytes {
        self.answer_as::<R>(response, self.id, self.version)
    }

    /// A frame with another correlation ID or version than was asked.
    pub(crate) fn answer_as<R: Request>(&self, response: &R::Response, id: i32, version: i16) -> Bytes {
        let mut out = BytesMut::from(&[0; 4][..]);
        let header = ResponseHeader::default().with_correlation_id(id);
        header.encode(&mut out, R::Response::header_version(version)).unwrap();
        response.encode(&mut out, version).unwrap();
        let length = i32::try_from(out.len() - 4).unwrap();
        out[..4].copy_from_slice(&length.to_be_bytes());
        out.freeze()
    }
}

/// The versions of a broker that knows all that the codec knows.
pub(crate) fn everything() -> ApiVersionsResponse {
    let apis = (0..100).filter_map(|key| ApiKey::try_from(key).ok());
    let apis = apis.map(|api| {
        let versions = api.valid_versions();
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    let own = ApiVersionsRequest::VERSIONS;
    assert!(own.max >= 3);
    ApiVersionsResponse::default().with_api_keys(apis.collect())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the threads of a test's broker are joined when it is dropped"
)]
pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(run)
}
