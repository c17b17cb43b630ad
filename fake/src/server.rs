//! The threads of a broker: one that accepts, one for each connection.

use std::{
    io::{self, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Action, Request,
    api::{Api, Call},
    apis::{self, Answer, Context, api_versions},
    sasl::{Admission, Session},
    shared::{Caller, Shared},
    versions::offer,
    wire,
};

/// Starts to accept connections; ends when the broker's life does and somebody comes to [`end`] it.
pub(crate) fn start(shared: &Arc<Shared>, node: i32, life: u64, listener: TcpListener) -> io::Result<()> {
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name(format!("fake-broker-{node}"))
        .spawn(move || accept(&for_thread, node, life, &listener))?;
    shared.connections.lock().accepting.insert(node, thread);
    Ok(())
}

/// Waits until nobody listens any more. The broker's life is over already, or this waits for long.
pub(crate) fn end(shared: &Shared, node: i32, address: SocketAddr) {
    let Some(thread) = shared.connections.lock().accepting.remove(&node) else {
        return;
    };
    // Who accepts looks whether it is to end when somebody comes.
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
    thread.join().ok();
}

fn accept(shared: &Arc<Shared>, node: i32, life: u64, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        let connection = {
            let mut connections = shared.connections.lock();
            connections.made += 1;
            connections.made
        };
        let caller = Caller { node, life, connection };
        if !shared.lives(&caller) {
            return;
        }
        match accepted.and_then(|(stream, _)| serve(shared, caller, stream)) {
            Ok(()) => {}
            Err(error) => log::warn!("broker {node} cannot take a connection: {error}"),
        }
    }
}

fn serve(shared: &Arc<Shared>, caller: Caller, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if !shared.open(&caller, stream.try_clone()?) {
        return Ok(());
    }
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name(format!("fake-conn-{}", caller.connection))
        .spawn(move || {
            let open = Open {
                shared: &for_thread,
                connection: caller.connection,
                stream,
            };
            if let Err(error) = answer_all(&for_thread, caller, &open.stream) {
                log::debug!(
                    "connection {} to broker {} ended: {error}",
                    caller.connection,
                    caller.node
                );
            }
        })
        .inspect_err(|_| shared.closed(caller.connection))?;
    shared.started(thread);
    Ok(())
}

/// Ends a connection with its thread, also when a hook panics: others hold the socket as well.
struct Open<'a> {
    shared: &'a Shared,
    connection: u64,
    stream: TcpStream,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.stream.shutdown(Shutdown::Both).ok();
        self.shared.closed(self.connection);
    }
}

/// What is sent for a request.
enum Reply {
    Send(Bytes),
    /// The last thing that is sent.
    SendAndEnd(Bytes),
    Nothing,
    /// Nothing is answered any more, but the connection stays.
    Silence,
}

/// One request after the other, as Kafka does: the next is not read before this one is answered.
fn answer_all(shared: &Shared, caller: Caller, mut stream: &TcpStream) -> io::Result<()> {
    let limit = shared.look(|state| state.limits.request_bytes);
    let mut session = Session::new(&shared.sasl());
    while let Some(frame) = wire::read_frame(&mut stream, limit)? {
        let reply = if session.takes_bare_token() {
            answer_token(shared, &mut session, &frame)
        } else {
            answer(shared, caller, &mut session, frame)
        };
        match reply {
            Some(Reply::Send(bytes)) => stream.write_all(&bytes)?,
            Some(Reply::SendAndEnd(bytes)) => {
                stream.write_all(&bytes)?;
                return Ok(());
            }
            Some(Reply::Nothing) => {}
            Some(Reply::Silence) => return io::copy(&mut stream, &mut io::sink()).map(drop),
            None => return Ok(()),
        }
        if shared.throttle(&caller).is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// A token as it is, with a length before it: how clients prove who they are after version 0 of the handshake. One that
/// proves nothing is answered by the end of the connection.
fn answer_token(shared: &Shared, session: &mut Session, token: &[u8]) -> Option<Reply> {
    let accepted = session.authenticate(&shared.sasl(), token, shared.now()).ok()?;
    let mut bytes = BytesMut::new();
    bytes.put_u32(accepted.token.len() as u32);
    bytes.put_slice(&accepted.token);
    Some(Reply::Send(bytes.freeze()))
}

/// `None` ends the connection: that is how Kafka answers what it cannot read.
fn answer(shared: &Shared, caller: Caller, session: &mut Session, mut frame: Bytes) -> Option<Reply> {
    let (key, version, correlation) = wire::peek(&frame)?;
    let admission = Api::of(key).map(|api| session.admit(api, shared.now()));
    if admission == Some(Admission::End) {
        log::debug!("API {key} is not what comes next, or the session has ended: the connection is closed");
        return None;
    }
    let profile = shared.look(|state| state.profile);
    let offered = Api::of(key).and_then(|api| offer(profile, api));
    let Some(offered) = offered.filter(|offer| (offer.first..=offer.last).contains(&version)) else {
        if Api::of(key) == Some(Api::ApiVersions) {
            if let Some(Admission::Refuse(code)) = admission {
                return wire::frame(correlation, 0, &api_versions::refused(code)).map(Reply::SendAndEnd);
            }
            return wire::frame(correlation, 0, &api_versions::unsupported(profile)).map(Reply::Send);
        }
        log::warn!("version {version} of API {key} is not offered: the connection is closed");
        return None;
    };
    let head = wire::take_head(offered.api, version, &mut frame)?;
    let call = Call::decode(head.api, version, &mut frame)?;
    let request = shared.look(|state| Request::new(state, &caller, &head, &call));
    shared.faults.came(request.clone());
    let action = shared.faults.decide(&request);
    let mut context = Context::new(shared, caller, head);
    if let Some(Admission::Refuse(code)) = admission {
        context.refuses = Some(code);
    }
    act(&action, &mut context, session, call)
}

fn act(action: &Action, context: &mut Context<'_>, session: &mut Session, call: Call) -> Option<Reply> {
    match action {
        Action::Disconnect => return None,
        Action::Silence => return Some(Reply::Silence),
        Action::Garbage(bytes) => return Some(Reply::Send(bytes.clone())),
        Action::Error(code) => context.refuses = Some(*code),
        Action::CorruptRecords => context.corrupts = true,
        Action::Delay(time) => context.shared.pause(&context.caller, *time)?,
        Action::Pass | Action::Truncate | Action::ThenDisconnect => {}
    }
    let answer = apis::answer(context, session, call)?;
    match (action, answer) {
        (Action::ThenDisconnect, _) => None,
        (Action::Truncate, Answer::Frame(bytes)) => Some(Reply::SendAndEnd(bytes.slice(..bytes.len() / 2))),
        (_, Answer::Frame(bytes)) if session.is_over() => Some(Reply::SendAndEnd(bytes)),
        (_, Answer::Frame(bytes)) => Some(Reply::Send(bytes)),
        // Half of no answer is none, and then comes the end.
        (Action::Truncate, Answer::Nothing) => None,
        (_, Answer::Nothing) => Some(Reply::Nothing),
    }
}
