//! Bounds on connections: so many at once, none that is silent for ever.
//!
//! At the bound the kernel's backlog is the queue. A connection on which nothing moves in either direction for
//! [`IDLE_TIMEOUT`] is closed: a client that sends its request byte by byte, or that is gone without a word, holds a
//! place no longer than that. Answers that take long move bytes, or end by the limits of queries before.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

/// Longer than a query may take by default (30 s) and a request (60 s), and than gRPC's pings are apart (30 s).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The places for connections of one face.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    idle_timeout: Duration,
}

impl Places {
    /// So many places.
    pub fn new(connections_max: usize) -> Self {
        let free = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { free, idle_timeout: IDLE_TIMEOUT }
    }

    /// With another time after which silent connections are closed.
    pub fn closing_idle_after(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// Waits for a free place.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes the semaphore.
        self.free.clone().acquire_owned().await.ok()
    }

    /// A connection that holds a place until it is dropped.
    pub fn hold<T>(&self, io: T, place: Option<OwnedSemaphorePermit>) -> Held<T> {
        Held { io, idle: Box::pin(sleep(self.idle_timeout)), timeout: self.idle_timeout, _place: place }
    }
}

/// A listener that gives connections as long as there are places.
#[derive(Debug)]
pub struct Bounded<L> {
    inner: L,
    places: Places,
}

impl<L> Bounded<L> {
    /// Bounds a listener.
    pub fn new(inner: L, places: Places) -> Self {
        Self { inner, places }
    }
}

impl<L: axum::serve::Listener> axum::serve::Listener for Bounded<L> {
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = self.places.take().await;
        let (io, address) = self.inner.accept().await;
        (self.places.hold(io, place), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection in its place.
#[derive(Debug)]
pub struct Held<T> {
    io: T,
    idle: Pin<Box<Sleep>>,
    timeout: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl<T> Held<T> {
    /// Starts the time anew when something moved; ends the connection when nothing did for too long.
    fn watch<R>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + self.timeout);
            return moved;
        }
        match self.idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.io).poll_read(context, to);
        self.watch(context, moved)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch(context, moved)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch(context, moved)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl<T: Connected> Connected for Held<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_gives_its_place_back() {
        let places = Places::new(1).closing_idle_after(Duration::from_millis(20));
        let (near, mut far) = tokio::io::duplex(64);
        let mut held = places.hold(near, places.take().await);
        assert_eq!(places.free.available_permits(), 0);
        far.write_all(b"xy").await.unwrap();
        let mut bytes = [0; 2];
        held.read_exact(&mut bytes).await.unwrap();
        let ended = held.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(held);
        assert_eq!(places.free.available_permits(), 1);
    }
}
