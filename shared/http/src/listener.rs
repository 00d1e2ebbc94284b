//! The listening socket.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

/// Connections that may wait to be accepted. After a restart all clients reconnect at once.
const ACCEPT_BACKLOG: i32 = 4_096;

/// Why the service cannot listen: one line with the next step.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {}", describe_listen_error(error))]
pub struct ListenError {
    addr: SocketAddr,
    #[source]
    error: io::Error,
}

fn describe_listen_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is taken; stop the other program, or choose another port with --listen".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use the port; choose one above 1023 with --listen".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have the address; choose another with --listen".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Opens the listening socket of a service. In each direction of an accepted connection the kernel
/// keeps at most about `buffer_bytes`: without a bound, a client that does not read costs several
/// megabytes that no process counts.
///
/// # Errors
/// [`ListenError`], one line for the operator.
pub fn open_listener(addr: SocketAddr, buffer_bytes: usize) -> Result<TcpListener, ListenError> {
    bind_socket(addr, buffer_bytes).map_err(|error| ListenError { addr, error })
}

fn bind_socket(addr: SocketAddr, buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // A restart must not wait until the old connections time out. On Windows this option would let
    // two programs share the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both sizes. Linux doubles the values, because it counts its own data
    // too.
    socket.set_send_buffer_size(buffer_bytes / 2)?;
    socket.set_recv_buffer_size(buffer_bytes / 2)?;
    socket.bind(&addr.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER_BYTES: usize = 64 * 1024;

    #[test]
    fn a_taken_port_is_reported_in_one_line() {
        let first = open_listener(([127, 0, 0, 1], 0).into(), BUFFER_BYTES).unwrap();
        let addr = first.local_addr().unwrap();
        let text = open_listener(addr, BUFFER_BYTES).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "cannot listen on {addr}: the port is taken; stop the other program, or choose another port with --listen"
            )
        );
    }

    #[test]
    fn a_foreign_address_is_reported_in_one_line() {
        let text = open_listener(([192, 0, 2, 1], 0).into(), BUFFER_BYTES).unwrap_err().to_string();
        assert!(text.contains("does not have the address"), "{text}");
    }

    #[test]
    fn accepted_sockets_have_the_bounded_buffers() {
        let listener = open_listener(([127, 0, 0, 1], 0).into(), BUFFER_BYTES).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.send_buffer_size().unwrap() <= BUFFER_BYTES);
        assert!(accepted.recv_buffer_size().unwrap() <= BUFFER_BYTES);
    }
}
