//! A TCP proxy that does to connections what networks and brokers do to them.
//!
//! It follows the frames in both directions, so it can count requests, cut at any byte, and let a test change or
//! swallow whole requests and answers. Bytes that are no Kafka frames (TLS) are passed on as they are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToBroker,
    ToClient,
}

/// The request that a frame is, or that an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub api_key: i16,
    pub version: i16,
    pub correlation: i32,
    /// Which connection, counted from 1 as they were accepted.
    pub connection: usize,
}

/// What becomes of a frame after a hook has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, with the length that it now has put before it.
    Forward,
    /// It goes on as it is: the hook has put a length before it, maybe a false one.
    ForwardRaw,
    /// It is swallowed.
    Drop,
    /// The connection ends instead.
    Cut,
}

/// What happens to a connection at a certain byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Both sides see an end.
    Cut,
    /// Both sides see a reset.
    Reset,
    /// This direction of all connections stands still until [`Proxy::resume`].
    Stall,
}

type Hook = Arc<dyn Fn(Asked, &mut Vec<u8>) -> Fate + Send + Sync>;

/// Listens on a port of its own and passes every connection on to one target. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    ended: AtomicBool,
    faults: Mutex<Faults>,
    /// Told of every change of `faults` and of `ended`.
    changed: Condvar,
    connections: Mutex<Vec<Arc<Connection>>>,
    accepted: AtomicUsize,
    passed: [AtomicU64; 2],
    requests: Mutex<BTreeMap<i16, u64>>,
    request_hook: Mutex<Option<Hook>>,
    answer_hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct Faults {
    delay: [Duration; 2],
    stalled: [bool; 2],
    trickle: [Option<(usize, Duration)>; 2],
    after: [Option<(u64, Then)>; 2],
    refuse: bool,
}

impl Proxy {
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        Self::start_at(listener, target)
    }

    /// Where somebody listens already.
    pub(super) fn start_at(listener: TcpListener, target: SocketAddr) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            target,
            ended: AtomicBool::new(false),
            faults: Mutex::default(),
            changed: Condvar::new(),
            connections: Mutex::default(),
            accepted: AtomicUsize::new(0),
            passed: Default::default(),
            requests: Mutex::default(),
            request_hook: Mutex::default(),
            answer_hook: Mutex::default(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open_connections().len()
    }

    /// Bytes passed on in this direction so far.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed[direction as usize].load(Ordering::SeqCst)
    }

    /// Requests with this API key that clients have sent so far, swallowed ones included.
    pub fn requests(&self, api_key: i16) -> u64 {
        lock(&self.shared.requests).get(&api_key).copied().unwrap_or(0)
    }

    /// Bytes from now on arrive that much later (those read before keep the delay they had).
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared.change(|faults| faults.delay[direction as usize] = delay);
    }

    /// Nothing more is passed on in this direction, on any connection; all stay open.
    pub fn stall(&self, direction: Direction) {
        self.shared.change(|faults| faults.stalled[direction as usize] = true);
    }

    /// Ends a stall, in both directions: what was held back is passed on.
    pub fn resume(&self) {
        self.shared.change(|faults| faults.stalled = [false; 2]);
    }

    /// Passes on only so many bytes at a time, each time after a pause. No pause and no limit: `usize::MAX`.
    pub fn trickle(&self, direction: Direction, bytes: usize, pause: Duration) {
        assert!(bytes > 0, "to pass on nothing is a stall");
        let trickle = (bytes < usize::MAX).then_some((bytes, pause));
        self.shared
            .change(|faults| faults.trickle[direction as usize] = trickle);
    }

    /// Passes on exactly so many more bytes in this direction, counted over all connections; then it happens, once, to
    /// the connection whose byte was the last.
    pub fn after(&self, direction: Direction, bytes: u64, then: Then) {
        self.shared
            .change(|faults| faults.after[direction as usize] = Some((bytes, then)));
    }

    /// Whether what [`after`](Self::after) asked for is still to come.
    pub fn is_pending(&self, direction: Direction) -> bool {
        lock(&self.shared.faults).after[direction as usize].is_some()
    }

    /// New connections are closed at once, or no longer.
    pub fn refuse(&self, refuse: bool) {
        self.shared.change(|faults| faults.refuse = refuse);
    }

    /// Ends all open connections as a peer that closes does.
    pub fn cut(&self) {
        self.shared.end_all(Then::Cut);
    }

    /// Ends all open connections as a peer that crashed does.
    pub fn reset(&self) {
        self.shared.end_all(Then::Reset);
    }

    /// Shows each request, without its length, to `hook`, which may change it and says what becomes of it.
    pub fn on_request(&self, hook: impl Fn(Asked, &mut Vec<u8>) -> Fate + Send + Sync + 'static) {
        *lock(&self.shared.request_hook) = Some(Arc::new(hook));
    }

    /// Shows each answer, without its length but with its correlation id, to `hook`, which may change it and says
    /// what becomes of it. Applies to answers that begin from now on.
    pub fn on_answer(&self, hook: impl Fn(Asked, &mut Vec<u8>) -> Fate + Send + Sync + 'static) {
        *lock(&self.shared.answer_hook) = Some(Arc::new(hook));
    }

    /// Takes both hooks away.
    pub fn no_hooks(&self) {
        *lock(&self.shared.request_hook) = None;
        *lock(&self.shared.answer_hook) = None;
    }

    /// Ends all faults but those that happened: no delay, stall, trickle, pending cut, refusal or hook.
    pub fn heal(&self) {
        self.shared.change(|faults| *faults = Faults::default());
        self.no_hooks();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the acceptor, which looks at `ended` after each connection.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        loop {
            let client = listener.accept();
            if self.ended.load(Ordering::SeqCst) {
                break;
            }
            let Ok((client, _)) = client else { continue };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst) + 1;
            if lock(&self.faults).refuse {
                continue;
            }
            // A dead target looks as it does without a proxy, but for one round trip: the connection ends.
            let Ok(broker) = TcpStream::connect_timeout(&self.target, Duration::from_secs(5)) else {
                continue;
            };
            let connection = Arc::new(Connection::new(number, client, broker));
            lock(&self.connections).push(Arc::clone(&connection));
            threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
            for direction in [Direction::ToBroker, Direction::ToClient] {
                let (sender, receiver) = sync_channel(64);
                threads.push(std::thread::spawn({
                    let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
                    move || shared.read(&connection, direction, &sender)
                }));
                threads.push(std::thread::spawn({
                    let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
                    move || {
                        shared.write(&connection, direction, &receiver);
                        connection.writers.fetch_sub(1, Ordering::SeqCst);
                        shared.open_connections();
                    }
                }));
            }
        }
        // One may have been accepted while `drop` cut the others.
        self.end_all(Then::Cut);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Reads one side, follows its frames, and hands on what is to be written with the time it was read.
    fn read(&self, connection: &Connection, direction: Direction, out: &SyncSender<(Instant, Option<Vec<u8>>)>) {
        let mut frames = Frames::new(direction);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match connection.source(direction).read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if is_time(&error) && !connection.over() => continue,
                Err(_) => {
                    connection.end(Then::Reset);
                    return;
                }
            };
            let read_at = Instant::now();
            for piece in frames.take(self, connection, &buffer[..count]) {
                let last = piece.is_none();
                if out.send((read_at, piece)).is_err() || last {
                    return;
                }
            }
        }
    }

    /// Writes to the other side what was read from one, with the faults of the moment.
    fn write(&self, connection: &Connection, direction: Direction, pieces: &Receiver<(Instant, Option<Vec<u8>>)>) {
        loop {
            let (read_at, bytes) = match pieces.recv_timeout(TICK) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) if !connection.over() => continue,
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let Some(bytes) = bytes else {
                // What was before it has been written.
                connection.end(Then::Cut);
                return;
            };
            let mut left = &bytes[..];
            while !left.is_empty() {
                let Some((allowed, then)) = self.wait_for_leave(connection, direction, read_at, left.len()) else {
                    return;
                };
                let mut head = &left[..allowed];
                left = &left[allowed..];
                while !head.is_empty() {
                    match connection.sink(direction).write(head) {
                        Ok(count) => {
                            self.passed[direction as usize].fetch_add(count as u64, Ordering::SeqCst);
                            head = &head[count..];
                        }
                        Err(error) if is_time(&error) && !connection.over() => {}
                        Err(_) => {
                            connection.end(Then::Cut);
                            return;
                        }
                    }
                }
                match then {
                    None => {}
                    Some(Then::Stall) => self.change(|faults| faults.stalled[direction as usize] = true),
                    Some(end) => {
                        connection.end(end);
                        return;
                    }
                }
            }
        }
        // The reading side saw an end: the other side shall see it too, but not through a stall.
        if self.wait_for_leave(connection, direction, Instant::now(), 0).is_some() {
            let _ = connection.sink(direction).shutdown(Shutdown::Write);
        }
    }

    /// Waits while this direction is stalled or its bytes are not due. Says how many bytes may go now and what
    /// happens then; `None` when the connection has ended.
    fn wait_for_leave(
        &self,
        connection: &Connection,
        direction: Direction,
        read_at: Instant,
        wanted: usize,
    ) -> Option<(usize, Option<Then>)> {
        let way = direction as usize;
        let mut faults = lock(&self.faults);
        let mut paused = None;
        loop {
            if connection.over() {
                return None;
            }
            let now = Instant::now();
            let due = match faults.trickle[way] {
                Some((_, pause)) if wanted > 0 => *paused.get_or_insert(now) + pause,
                _ => read_at,
            };
            let wait = due.max(read_at + faults.delay[way]).saturating_duration_since(now);
            if !faults.stalled[way] && wait.is_zero() {
                break;
            }
            // Never longer than a tick: a connection that ends wakes nobody who waits for another.
            let wait = if faults.stalled[way] { TICK } else { wait.min(TICK) };
            faults = self
                .changed
                .wait_timeout(faults, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let mut allowed = faults.trickle[way].map_or(wanted, |(bytes, _)| bytes.min(wanted));
        let mut then = None;
        if wanted > 0 {
            if let Some((left, what)) = faults.after[way] {
                allowed = allowed.min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - allowed as u64;
                faults.after[way] = (left > 0).then_some((left, what));
                then = (left == 0).then_some(what);
            }
        }
        Some((allowed, then))
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.faults));
        self.changed.notify_all();
    }

    fn end_all(&self, how: Then) {
        for connection in self.open_connections() {
            connection.end(how);
        }
        self.open_connections();
        self.changed.notify_all();
    }

    /// Forgets those that are over: their sockets close when their threads let go too.
    fn open_connections(&self) -> Vec<Arc<Connection>> {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.over());
        connections.clone()
    }
}

/// How long a thread may take to see that its connection has ended.
const TICK: Duration = Duration::from_millis(20);

struct Connection {
    number: usize,
    client: TcpStream,
    broker: TcpStream,
    ended: AtomicBool,
    /// Directions that are not done.
    writers: AtomicUsize,
    /// Requests that wait for their answer.
    asked: Mutex<HashMap<i32, VecDeque<Asked>>>,
}

impl Connection {
    fn new(number: usize, client: TcpStream, broker: TcpStream) -> Self {
        for socket in [&client, &broker] {
            let _ = socket.set_nodelay(true);
            let _ = socket.set_read_timeout(Some(TICK));
            let _ = socket.set_write_timeout(Some(TICK));
        }
        Self {
            number,
            client,
            broker,
            ended: AtomicBool::new(false),
            writers: AtomicUsize::new(2),
            asked: Mutex::default(),
        }
    }

    fn source(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::ToBroker => &self.client,
            Direction::ToClient => &self.broker,
        }
    }

    fn sink(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::ToBroker => &self.broker,
            Direction::ToClient => &self.client,
        }
    }

    fn over(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || self.writers.load(Ordering::SeqCst) == 0
    }

    /// The first end counts.
    fn end(&self, how: Then) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        for socket in [&self.client, &self.broker] {
            if how == Then::Reset {
                // The reset itself is sent when the last thread lets go of the socket. Until then nothing may be
                // sent: to shut down writing would end the connection in peace first.
                let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
                let _ = socket.shutdown(Shutdown::Read);
            } else {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Follows the frames of one direction of one connection.
struct Frames {
    direction: Direction,
    /// The beginning of a frame that is not decided about, or a whole frame in the making.
    held: Vec<u8>,
    /// Bytes of the present frame that just pass.
    passing: u64,
    /// No Kafka frames: everything passes.
    opaque: bool,
}

/// More than any frame of these tests; what claims to be longer is something else, such as TLS.
const LONGEST_FRAME: u64 = 256 << 20;

/// Length, API key, version, correlation id; and in answers length and correlation id.
const REQUEST_HEAD: usize = 12;
const ANSWER_HEAD: usize = 8;

impl Frames {
    fn new(direction: Direction) -> Self {
        Self {
            direction,
            held: Vec::new(),
            passing: 0,
            opaque: false,
        }
    }

    /// What is to be written after these bytes were read; `None` stands for the end of the connection.
    fn take(&mut self, shared: &Shared, connection: &Connection, mut bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() || self.held.len() >= 4 {
            if self.opaque {
                let mut all = std::mem::take(&mut self.held);
                all.extend(bytes);
                pieces.push(Some(all));
                break;
            }
            if self.passing > 0 {
                let count = bytes.len().min(usize::try_from(self.passing).unwrap_or(usize::MAX));
                pieces.push(Some(bytes[..count].to_vec()));
                bytes = &bytes[count..];
                self.passing -= count as u64;
                if bytes.is_empty() {
                    break;
                }
                continue;
            }
            let head = if self.direction == Direction::ToBroker {
                REQUEST_HEAD
            } else {
                ANSWER_HEAD
            };
            self.hold(&mut bytes, head);
            if self.held.len() >= 4 && self.length() > LONGEST_FRAME {
                self.opaque = true;
                continue;
            }
            if self.held.len() < head {
                break;
            }
            if self.length() + 4 < head as u64 {
                self.opaque = true;
                continue;
            }
            let whole = 4 + self.length() as usize;
            let hook = match self.direction {
                Direction::ToBroker => lock(&shared.request_hook).clone(),
                Direction::ToClient => lock(&shared.answer_hook).clone(),
            };
            // A frame that is being held stays with its decision: a hook that came late gets the next one.
            match hook {
                Some(hook) => {
                    self.hold(&mut bytes, whole);
                    if self.held.len() < whole {
                        break;
                    }
                    let mut frame = self.held.split_off(4);
                    self.held.clear();
                    let Some(asked) = self.asked(connection, &frame, shared) else {
                        pieces.push(Some(with_length(&frame)));
                        continue;
                    };
                    match hook(asked, &mut frame) {
                        Fate::Forward => pieces.push(Some(with_length(&frame))),
                        Fate::ForwardRaw => pieces.push(Some(frame)),
                        Fate::Drop => {
                            // Nobody will ask for this one's answer.
                            if self.direction == Direction::ToBroker {
                                take_asked(connection, asked.correlation);
                            }
                        }
                        Fate::Cut => {
                            pieces.push(None);
                            return pieces;
                        }
                    }
                }
                None => {
                    let frame = std::mem::take(&mut self.held);
                    self.asked(connection, &frame[4..], shared);
                    self.passing = (whole - frame.len().min(whole)) as u64;
                    pieces.push(Some(frame));
                }
            }
        }
        pieces
    }

    fn hold(&mut self, bytes: &mut &[u8], until: usize) {
        let count = until.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend(&bytes[..count]);
        *bytes = &bytes[count..];
    }

    fn length(&self) -> u64 {
        u64::from(u32::from_be_bytes([
            self.held[0],
            self.held[1],
            self.held[2],
            self.held[3],
        ]))
    }

    /// Reads a request's head and remembers it, or finds the request of an answer.
    fn asked(&self, connection: &Connection, frame: &[u8], shared: &Shared) -> Option<Asked> {
        match self.direction {
            Direction::ToBroker => {
                let asked = Asked {
                    api_key: i16::from_be_bytes([frame[0], frame[1]]),
                    version: i16::from_be_bytes([frame[2], frame[3]]),
                    correlation: i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]),
                    connection: connection.number,
                };
                *lock(&shared.requests).entry(asked.api_key).or_default() += 1;
                lock(&connection.asked)
                    .entry(asked.correlation)
                    .or_default()
                    .push_back(asked);
                Some(asked)
            }
            Direction::ToClient => take_asked(connection, i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]])),
        }
    }
}

fn take_asked(connection: &Connection, correlation: i32) -> Option<Asked> {
    let mut asked = lock(&connection.asked);
    let found = asked.get_mut(&correlation)?.pop_front();
    if asked[&correlation].is_empty() {
        asked.remove(&correlation);
    }
    found
}

fn with_length(frame: &[u8]) -> Vec<u8> {
    let mut whole = (frame.len() as u32).to_be_bytes().to_vec();
    whole.extend(frame);
    whole
}

fn is_time(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
