//! Sockets: from a name to a connection, whichever of its addresses answers.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use crossbeam_channel::bounded;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::is_timeout;
use crate::{
    deadline::{Deadline, Waited},
    error::{Error, ErrorKind, Result, plain},
    net::{Address, SocketOptions},
    stop::Stop,
    thread::Worker,
};

/// Connects to each of the addresses that the name stands for, in turn, until one answers.
pub(super) fn connect(address: &Address, options: &SocketOptions, deadline: &Deadline) -> Result<Socket> {
    deadline.check(CONNECTED)?;
    let resolved = resolve(address, deadline)?;
    let mut reasons: Vec<(SocketAddr, Error)> = Vec::new();
    for (at, peer) in resolved.iter().enumerate() {
        deadline.check(CONNECTED)?;
        // One address that swallows packets must not use up what the others could be reached in.
        let left = u32::try_from(resolved.len() - at).unwrap_or(1);
        let share = deadline.remaining() / left;
        match connect_one(*peer, options, deadline, share.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                deadline.check(CONNECTED)?;
                reasons.push((*peer, unreachable(&error, deadline)));
            }
        }
    }
    Err(summary(reasons))
}

const CONNECTED: &str = "a TCP connection";

fn unreachable(error: &io::Error, deadline: &Deadline) -> Error {
    if is_timeout(error) {
        return deadline.error(CONNECTED);
    }
    Error::new(ErrorKind::Unreachable, plain(error))
}

/// The operating system's resolver takes its time and cannot be interrupted: it gets a thread, so that the deadline holds
/// for the caller. Should the deadline be first, that thread ends when the resolver does.
fn resolve(address: &Address, deadline: &Deadline) -> Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let (tell, told) = bounded(1); // the one answer
    let Address { host, port } = address.clone();
    let _resolver = Worker::start("klamm-resolve", move || {
        let found = (host.as_str(), port).to_socket_addrs();
        // Nobody may be waiting any more.
        tell.try_send(found.map(Iterator::collect::<Vec<_>>)).ok();
    })?;
    let refuse = |why: &str| {
        let host = &address.host;
        Error::new(ErrorKind::Unreachable, format!("cannot resolve {host}: {why}"))
    };
    match deadline.wait(&told) {
        Waited::Got(Ok(found)) if found.is_empty() => Err(refuse("the name stands for no address")),
        Waited::Got(Ok(found)) => Ok(found),
        Waited::Got(Err(error)) => {
            let why = plain(&error);
            let why = why
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&why);
            Err(refuse(&why.to_lowercase()))
        }
        Waited::Gone => Err(refuse("the resolver has failed")),
        Waited::TimedOut => Err(deadline.error(&format!("the address of {}", address.host))),
        Waited::Stopped => Err(deadline.stopped().map_or_else(|| Error::closed("client"), Stop::error)),
    }
}

fn connect_one(peer: SocketAddr, options: &SocketOptions, deadline: &Deadline, limit: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    // A small write must not wait for the answer to the one before it.
    socket.set_tcp_nodelay(true)?;
    if let Some(silent) = options.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silent))?;
    }
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.set_write_timeout(Some(WRITE_SLICE))?;
    let waking = deadline.stops().iter().map(|stop| {
        let socket = socket.try_clone()?;
        Ok(stop.on_stop(move || drop(socket.shutdown(Shutdown::Both))))
    });
    let _waking: Vec<_> = waking.collect::<io::Result<_>>()?;
    socket.connect_timeout(&SockAddr::from(peer), limit)?;
    if socket.local_addr()?.as_socket() == Some(peer) {
        // With nobody listening, a port of the ephemeral range can be connected to itself.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

/// A write that finds no room looks at its deadline and its stops this often.
const WRITE_SLICE: Duration = Duration::from_millis(50);

fn summary(mut reasons: Vec<(SocketAddr, Error)>) -> Error {
    let (_, last) = reasons.pop().expect("a name stands for at least one address");
    let reason = last.reason();
    if reasons.iter().all(|(_, error)| error.reason() == reason) {
        return last;
    }
    reasons.iter().rev().fold(last, |sum, (peer, error)| {
        sum.explained(&format!("and {} at {}", error.reason(), peer.ip()))
    })
}
