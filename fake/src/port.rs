//! Where a broker listens: a port that stays its own while it is down.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

/// A port, kept by a socket that is bound to it and does not listen: whoever connects is refused, and nobody else is
/// given it.
#[derive(Debug)]
pub(crate) struct Port {
    address: SocketAddr,
    /// `None` where two sockets cannot share a port, and one listens.
    held: Option<Socket>,
}

impl Port {
    /// Listens at this address; port 0 is any that is free.
    pub(crate) fn open(address: SocketAddr) -> io::Result<(Self, TcpListener)> {
        let socket = bind(address)?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("a socket of TCP without an address"))?;
        let mut port = Self { address, held: None };
        let listener = port.listen_with(socket)?;
        Ok((port, listener))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the port back at once when nobody listens any more, where it could not be kept until then.
    pub(crate) fn hold(&mut self) {
        if self.held.is_none() {
            self.held = bind(self.address).ok();
        }
    }

    /// Listens again where nobody does.
    pub(crate) fn listen(&mut self) -> io::Result<TcpListener> {
        let socket = self.held.take().map_or_else(|| bind(self.address), Ok)?;
        self.listen_with(socket)
    }

    /// Linux lets sockets share a port until one listens, so the next one is bound before.
    fn listen_with(&mut self, socket: Socket) -> io::Result<TcpListener> {
        self.held = bind(self.address).ok();
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
}

/// As many as std's listeners let wait.
const BACKLOG: i32 = 128;

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of an earlier life are not in the way. On Windows they never are, and this means something else.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn nobody_else_is_given_the_port_while_it_is_down() {
        let (mut port, listener) = Port::open((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        drop(listener);
        port.hold();
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let refused = other.bind(&port.address().into()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        let address = port.address();
        drop(port);
        other.bind(&address.into()).unwrap();
    }

    #[test]
    fn who_connects_is_refused_until_somebody_listens_again() {
        let (mut port, mut listener) = Port::open((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        for _ in 0..3 {
            let connected = TcpStream::connect(port.address()).unwrap();
            assert_eq!(listener.accept().unwrap().1, connected.local_addr().unwrap());
            drop(listener);
            port.hold();
            let refused = TcpStream::connect(port.address()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            listener = port.listen().unwrap();
        }
    }
}
