//! The bytes of a connection: PostgreSQL asks for TLS inside its own protocol, with a first message of eight bytes.
//!
//! pgwire could do this, but with a second implementation of certificates and derive macros that make every dependency
//! build anew; the pair of sockets here costs one copy of the bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::session::{Handlers, Session};

/// The first message of a client that wants TLS, and of one that wants Kerberos: length 8, then the code.
const WANTS_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const WANTS_GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A connection that does not get on with its handshake is dropped, so that silent ones do not gather.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one connection to its end.
pub async fn serve(mut socket: TcpStream, tls: Option<TlsAcceptor>, mut session: Session) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let Some(tls) = tls else {
        return pgwire::tokio::process_socket(socket, None, Handlers(Arc::new(session))).await;
    };
    let wants_tls = tokio::time::timeout(HANDSHAKE_TIMEOUT, wants_tls(&mut socket)).await??;
    if !wants_tls {
        session.must_come_over_tls = true;
        return pgwire::tokio::process_socket(socket, None, Handlers(Arc::new(session))).await;
    }
    socket.write_all(b"S").await?;
    let mut encrypted = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await??;
    let (mut inner, served) = UnixStream::pair()?;
    let serving = pgwire::tokio::process_socket_unix(served, Handlers(Arc::new(session)));
    let copying = tokio::io::copy_bidirectional(&mut encrypted, &mut inner);
    // Whoever ends first ends the other: a client that has gone, or a login that was refused.
    tokio::pin!(serving, copying);
    tokio::select! {
        served = &mut serving => {
            served?;
            // What was answered last is still in the pair.
            tokio::time::timeout(HANDSHAKE_TIMEOUT, copying).await??;
        }
        copied = &mut copying => {
            copied?;
        }
    }
    Ok(())
}

/// Reads the first message if it asks for TLS; leaves any other.
async fn wants_tls(socket: &mut TcpStream) -> io::Result<bool> {
    let mut first = [0; 8];
    loop {
        let mut seen = 0;
        while seen < first.len() {
            let now = socket.peek(&mut first).await?;
            if now == seen {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            seen = now;
        }
        match first {
            WANTS_TLS => {
                socket.read_exact(&mut first).await?;
                return Ok(true);
            }
            WANTS_GSS => {
                socket.read_exact(&mut first).await?;
                socket.write_all(b"N").await?;
            }
            _ => return Ok(false),
        }
    }
}
