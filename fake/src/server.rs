//! The threads of a broker: one that accepts, one for each connection.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    api::{Api, Call},
    apis::{self, Answer, Context, api_versions},
    shared::{Caller, Shared},
    versions::offer,
    wire,
};

/// Starts to accept connections; ends when the broker's life does and somebody [`wake`]s it.
pub(crate) fn start(shared: &Arc<Shared>, node: i32, life: u64, listener: TcpListener) -> io::Result<()> {
    let for_thread = Arc::clone(shared);
    let thread = thread::Builder::new()
        .name(format!("fake-broker-{node}"))
        .spawn(move || accept(&for_thread, node, life, &listener))?;
    shared.started(thread);
    Ok(())
}

/// Makes the thread that accepts at this address look whether it is to end.
pub(crate) fn wake(address: SocketAddr) {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
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
            if let Err(error) = answer_all(&for_thread, caller, &stream) {
                log::debug!(
                    "connection {} to broker {} ended: {error}",
                    caller.connection,
                    caller.node
                );
            }
            for_thread.closed(caller.connection);
        })
        .inspect_err(|_| shared.closed(caller.connection))?;
    shared.started(thread);
    Ok(())
}

/// One request after the other, as Kafka does: the next is not read before this one is answered.
fn answer_all(shared: &Shared, caller: Caller, mut stream: &TcpStream) -> io::Result<()> {
    let limit = shared.look(|state| state.limits.request_bytes);
    while let Some(frame) = wire::read_frame(&mut stream, limit)? {
        match answer(shared, caller, frame) {
            Some(Answer::Frame(bytes)) => stream.write_all(&bytes)?,
            Some(Answer::Nothing) => {}
            None => return Ok(()),
        }
    }
    Ok(())
}

/// `None` ends the connection: that is how Kafka answers what it cannot read.
fn answer(shared: &Shared, caller: Caller, mut frame: Bytes) -> Option<Answer> {
    let (key, version, correlation) = wire::peek(&frame)?;
    let profile = shared.look(|state| state.profile);
    let offered = Api::of(key).and_then(|api| offer(profile, api));
    let Some(offered) = offered.filter(|offer| (offer.first..=offer.last).contains(&version)) else {
        if Api::of(key) == Some(Api::ApiVersions) {
            return wire::frame(correlation, 0, &api_versions::unsupported(profile)).map(Answer::Frame);
        }
        log::warn!("version {version} of API {key} is not offered: the connection is closed");
        return None;
    };
    let head = wire::take_head(offered.api, version, &mut frame)?;
    let call = Call::decode(head.api, version, &mut frame)?;
    let corrupts = false;
    let context = Context {
        shared,
        caller,
        head,
        corrupts,
    };
    apis::answer(&context, call)
}
