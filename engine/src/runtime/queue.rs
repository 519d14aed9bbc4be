//! What waits between two threads of a pipeline: so many messages, or more as long as they are small. The receiver takes all
//! of it at once, so the threads wake each other once for several messages.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How much waits before the sender does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// So many messages may wait, whatever they take.
    pub(super) messages: usize,
    /// More, as long as all of them take less than this.
    pub(super) bytes: usize,
}

impl Room {
    fn is_full<T>(self, waiting: &Waiting<T>) -> bool {
        waiting.messages.len() >= self.messages && waiting.bytes >= self.bytes
    }
}

/// A way for messages from one thread to another.
pub(super) fn queue<T>(room: Room) -> (Sender<T>, Receiver<T>) {
    let waiting = Waiting { messages: Vec::new(), bytes: 0, is_open: true };
    let shared = Arc::new(Shared { waiting: Mutex::new(waiting), changed: Condvar::new(), room });
    (Sender(shared.clone()), Receiver(shared))
}

struct Waiting<T> {
    messages: Vec<T>,
    bytes: usize,
    /// Whether both ends are there.
    is_open: bool,
}

struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    room: Room,
}

impl<T> Shared<T> {
    /// What waits, when `ready` says so or an end has gone.
    fn when(&self, ready: impl Fn(&Waiting<T>) -> bool) -> MutexGuard<'_, Waiting<T>> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let not_yet = |waiting: &mut Waiting<T>| waiting.is_open && !ready(waiting);
        self.changed.wait_while(waiting, not_yet).unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.when(|_| true).is_open = false;
        self.changed.notify_all();
    }
}

/// The sending end.
pub(super) struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Adds a message when there is room; whether the receiver is there. `bytes` says what the message takes.
    pub(super) fn send(&self, message: T, bytes: impl Fn(&T) -> usize) -> bool {
        let room = self.0.room;
        let bytes = if room.bytes > 0 { bytes(&message) } else { 0 };
        let mut waiting = self.0.when(|waiting| !room.is_full(waiting));
        if !waiting.is_open {
            return false;
        }
        waiting.bytes += bytes;
        waiting.messages.push(message);
        // The receiver waits for nothing but the first.
        if waiting.messages.len() == 1 {
            self.0.changed.notify_one();
        }
        true
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The receiving end.
pub(super) struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// All that waits; nothing if nothing does.
    pub(super) fn here(&self) -> Vec<T> {
        self.take(|_| true)
    }

    /// The same, as soon as something waits; nothing if the sender has gone and all that it sent was taken.
    pub(super) fn next(&self) -> Vec<T> {
        self.take(|w| !w.messages.is_empty())
    }

    fn take(&self, ready: impl Fn(&Waiting<T>) -> bool) -> Vec<T> {
        let mut waiting = self.0.when(ready);
        let was_full = self.0.room.is_full(&waiting);
        waiting.bytes = 0;
        let messages = std::mem::take(&mut waiting.messages);
        drop(waiting);
        if was_full {
            self.0.changed.notify_one();
        }
        messages
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 100 messages of `bytes` each from another thread; how many waited at most, taken when the sender cannot go on.
    fn most(room: Room, bytes: usize) -> usize {
        let (sender, receiver) = queue(room);
        let sending = std::thread::spawn(move || {
            for n in 0..100 {
                assert!(sender.send(n, |_| bytes));
            }
        });
        let (mut taken, mut most) = (Vec::new(), 0);
        while taken.len() < 100 {
            let stops = |w: &Waiting<i32>| room.is_full(w) || taken.len() + w.messages.len() == 100;
            while !stops(&receiver.0.when(|_| true)) {
                std::thread::yield_now();
            }
            let messages = receiver.here();
            most = most.max(messages.len());
            taken.extend(messages);
        }
        sending.join().unwrap();
        assert_eq!(taken, (0..100).collect::<Vec<_>>(), "in their order");
        assert!(receiver.next().is_empty(), "the sender has gone");
        most
    }

    #[test]
    fn messages_wait_up_to_a_number_or_up_to_bytes() {
        assert_eq!(most(Room { messages: 4, bytes: 0 }, 1_000), 4);
        assert_eq!(most(Room { messages: 4, bytes: 10_000 }, 1_000), 10);
        assert_eq!(most(Room { messages: 4, bytes: 10_000 }, 9_000), 4);
    }

    #[test]
    fn who_waits_is_told_that_the_other_end_has_gone() {
        let (sender, receiver) = queue(Room { messages: 1, bytes: 0 });
        assert!(receiver.here().is_empty() && sender.send(1, |_| 0));
        let waits = std::thread::spawn(move || sender.send(2, |_| 0));
        drop(receiver);
        assert!(!waits.join().unwrap());
        let (sender, receiver) = queue::<i32>(Room { messages: 1, bytes: 0 });
        let waits = std::thread::spawn(move || receiver.next());
        drop(sender);
        assert!(waits.join().unwrap().is_empty());
    }
}
