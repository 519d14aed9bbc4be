//! A proxy that can be told to be slow, to refuse, to lose answers, or to be gone; for what stands before an S3 server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// What the proxy does with a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// Passes everything on.
    Clear = 0,
    /// Waits before each piece.
    Slow = 1,
    /// Answers 503 by itself.
    Refuses = 2,
    /// Passes requests on, and closes instead of passing the answer back.
    LosesAnswers = 3,
    /// Closes every connection at once.
    Gone = 4,
}

/// How long a slow proxy holds each piece back.
const SLOW: Duration = Duration::from_millis(40);

#[derive(Debug, Default)]
struct Shared {
    mood: AtomicU8,
    /// Pieces that the mood did something to.
    disturbed: AtomicU64,
}

impl Shared {
    fn is(&self, mood: Mood) -> bool {
        let is = self.mood.load(Ordering::SeqCst) == mood as u8;
        if is && mood != Mood::Clear {
            self.disturbed.fetch_add(1, Ordering::SeqCst);
        }
        is
    }
}

/// A proxy before one port of this machine.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Begins to pass connections on to `target`.
    pub fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = own.clone();
                std::thread::spawn(move || pass(&client, target, &shared));
            }
        });
        Self { port, shared }
    }

    /// Changes the mood, also of connections that are open.
    pub fn set(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// How often the moods did something since the start.
    pub fn disturbed(&self) -> u64 {
        self.shared.disturbed.load(Ordering::SeqCst)
    }
}

fn pass(client: &TcpStream, target: u16, shared: &Arc<Shared>) {
    if shared.is(Mood::Gone) {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let (Ok(answers), Ok(back)) = (server.try_clone(), client.try_clone()) else { return };
    let own = shared.clone();
    let backwards = std::thread::spawn(move || pump(&answers, &back, &own, true));
    pump(client, &server, shared, false);
    let _ = server.shutdown(Shutdown::Both);
    let _ = backwards.join();
}

/// Passes pieces on until an end, or until the mood ends it.
fn pump(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, answers: bool) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(bytes) = from.read(&mut piece) {
        if bytes == 0 || shared.is(Mood::Gone) || (answers && shared.is(Mood::LosesAnswers)) {
            break;
        }
        if !answers && shared.is(Mood::Refuses) {
            let _ = from.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            break;
        }
        if shared.is(Mood::Slow) {
            std::thread::sleep(SLOW);
        }
        if to.write_all(&piece[..bytes]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
