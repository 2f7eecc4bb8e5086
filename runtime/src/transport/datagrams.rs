//! Datagrams in and out: single messages that may be lost, repeated and reordered.
//!
//! The driver receives a batch into an [`Inbox`] and sends a batch of datagrams of one size at a time, so that a system
//! call carries many. Knows nothing of what is in them.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::address::Address;

/// A socket for datagrams; closed when it is dropped.
pub(crate) trait Datagrams: Send {
    /// Where it is bound, with the port that was chosen.
    fn address(&self) -> Address;

    /// Receives what is there into an inbox that is empty; ready only with one datagram or more.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] at a client, if nobody listens at the peer's address. The socket can be
    /// used on in any case.
    fn poll_receive(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>>;

    /// Sends datagrams that lie one behind the other, each of `segment` bytes but for the last, which may be shorter.
    /// Returns how many bytes left, a multiple of `segment` or all. A datagram that is too long for the path is lost,
    /// as any other may be.
    ///
    /// # Errors
    /// As for [`poll_receive`](Self::poll_receive), or why nothing of this leaves; the socket can be used on.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        route: Route,
        bytes: &[u8],
        segment: usize,
    ) -> Poll<io::Result<usize>>;

    /// The number under which the kernel counts the datagrams that it dropped for want of room, if it does.
    fn kernel_number(&self) -> Option<u64> {
        None
    }
}

/// A socket that is being made.
pub(crate) type Binding<'a> =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Datagrams>>> + Send + 'a>>;

/// Which end of links a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Sends to one peer and hears it alone: that at the address of the host with this position. There is an error if
    /// the host has fewer addresses.
    Client { choice: usize },
    /// Hears everybody at the address.
    Server,
}

/// Between whom a datagram travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Route {
    /// The other end; none for a client's socket, which has one peer only.
    pub(crate) peer: Option<SocketAddr>,
    /// Which of this machine's addresses, where there is a choice: peers expect an answer from where they asked.
    pub(crate) local: Option<IpAddr>,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) from: SocketAddr,
    /// Which of this machine's addresses it was sent to, where there is a choice.
    pub(crate) local: Option<IpAddr>,
    pub(crate) bytes: &'a [u8],
}

/// One batch of received datagrams. Its slots are those of the thread while it is empty: they are large, and of many
/// sockets few have a batch at the same time.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    datagrams: Vec<Place>,
    waited: Duration,
}

/// Where in an inbox a datagram lies.
struct Place {
    range: Range<usize>,
    from: SocketAddr,
    local: Option<IpAddr>,
}

impl Inbox {
    /// The datagrams, in the order of their arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        self.datagrams.iter().map(|place| self.received(place))
    }

    /// The datagram with this index, if there are so many.
    pub(crate) fn get(&self, index: usize) -> Option<Received<'_>> {
        self.datagrams.get(index).map(|place| self.received(place))
    }

    fn received(&self, place: &Place) -> Received<'_> {
        let Place { ref range, from, local } = *place;
        Received { from, local, bytes: &self.bytes[range.clone()] }
    }

    /// How long the first of them had waited to be received, where that is known and there are many.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Sets how long the first has waited.
    pub(super) fn set_waited(&mut self, waited: Duration) {
        self.waited = waited;
    }

    /// How many datagrams there are.
    pub(crate) fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Forgets the datagrams.
    pub(crate) fn clear(&mut self) {
        self.datagrams.clear();
        self.waited = Duration::ZERO;
        if self.bytes.len() >= SHARED {
            let bytes = std::mem::take(&mut self.bytes);
            // A thread that ends has no use for them.
            let _ = SLOTS.try_with(|slots| slots.set(bytes));
        }
    }

    /// Adds one, for a network that has its bytes elsewhere; such a one stops at a number of its own.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn push(&mut self, from: SocketAddr, bytes: &[u8]) {
        if self.datagrams.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.datagrams.push(Place { range: start..self.bytes.len(), from, local: None });
    }

    /// `count` slots of `size` bytes each, to be received into.
    pub(super) fn slots(
        &mut self,
        count: usize,
        size: usize,
    ) -> std::slice::ChunksExactMut<'_, u8> {
        if self.bytes.len() < count * size {
            self.bytes = SLOTS.try_with(Cell::take).unwrap_or_default();
        }
        if self.bytes.len() < count * size {
            // Asked for zeroed, the memory is the system's until it is touched: slots that nothing fills cost nothing.
            self.bytes = vec![0; count * size];
        }
        self.bytes.chunks_exact_mut(size)
    }

    /// A slot was filled with datagrams of `stride` bytes each but for the last. `at` is where the slot begins.
    pub(super) fn filled(
        &mut self,
        at: usize,
        length: usize,
        stride: usize,
        from: SocketAddr,
        local: Option<IpAddr>,
    ) {
        let stride = stride.max(1);
        for start in (0..length).step_by(stride) {
            let range = at + start..at + (start + stride).min(length);
            self.datagrams.push(Place { range, from, local });
        }
    }
}

thread_local! {
    /// Slots that no inbox of this thread has.
    static SLOTS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of slots that are worth sharing.
const SHARED: usize = 64 << 10;

/// Datagrams of one batch that a network which fills an inbox one by one stops at.
#[cfg(feature = "sim")]
pub(crate) const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(inbox: &Inbox) -> Vec<&[u8]> {
        inbox.iter().map(|received| received.bytes).collect()
    }

    #[test]
    fn datagrams_that_the_kernel_joined_are_taken_apart() {
        let from = SocketAddr::from(([127, 0, 0, 1], 7400));
        let mut inbox = Inbox::default();
        for (slot, bytes) in inbox.slots(2, 8).zip([&b"aabbc"[..], &b"ddd"[..]]) {
            slot[..bytes.len()].copy_from_slice(bytes);
        }
        inbox.filled(0, 5, 2, from, None);
        inbox.filled(8, 3, 3, from, None);
        assert_eq!(texts(&inbox), [&b"aa"[..], b"bb", b"c", b"ddd"]);
        inbox.clear();
        inbox.push(from, b"one");
        inbox.push(from, b"another");
        assert_eq!(texts(&inbox), [&b"one"[..], b"another"]);
    }

    #[test]
    fn an_empty_inbox_keeps_no_slots_and_the_next_has_them() {
        let (mut first, mut second) = (Inbox::default(), Inbox::default());
        let filled = first.slots(2, SHARED).next().expect("a slot").as_ptr();
        first.clear();
        assert_eq!(first.bytes.capacity(), 0);
        assert_eq!(second.slots(2, SHARED).next().expect("a slot").as_ptr(), filled);
    }
}
