//! Datagrams on their way to a socket, one behind the other, so that a system call takes many.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use crate::transport::{Datagrams, Route};

/// What waits for the socket.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    runs: VecDeque<Run>,
    sent: u64,
}

/// Datagrams of one size with the same way, of which the last may be shorter.
struct Run {
    route: Route,
    segment: usize,
    range: Range<usize>,
}

impl Outbox {
    /// Whether more may be added: what is slower than its callers is not to hoard.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < MOST_BYTES
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds what `put` appends, as one datagram, if it appends something and says where it goes.
    #[inline]
    pub(super) fn put(&mut self, put: impl FnOnce(&mut Vec<u8>) -> Option<Route>) -> bool {
        let start = self.bytes.len();
        let route = put(&mut self.bytes);
        let range = start..self.bytes.len();
        let Some(route) = route.filter(|_| !range.is_empty()) else { return false };
        match self.runs.back_mut() {
            Some(run) if run.joins(&route, range.len()) => run.range.end = range.end,
            _ => self.runs.push_back(Run { route, segment: range.len(), range }),
        }
        true
    }

    /// Hands everything to the socket.
    ///
    /// # Errors
    /// Why one batch did not leave; it is dropped, the others wait.
    #[inline]
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut dyn Datagrams,
    ) -> Poll<io::Result<()>> {
        while let Some(run) = self.runs.front_mut() {
            let bytes = &self.bytes[run.range.clone()];
            match ready!(socket.poll_send(cx, run.route, bytes, run.segment)) {
                Ok(sent) => {
                    self.sent += sent.div_ceil(run.segment) as u64;
                    run.range.start += sent;
                    if run.range.is_empty() {
                        self.runs.pop_front();
                    }
                }
                Err(error) => {
                    self.runs.pop_front();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Datagrams that the socket took so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

impl Run {
    /// Whether a datagram of this length can follow.
    fn joins(&self, route: &Route, length: usize) -> bool {
        self.route == *route
            && length <= self.segment
            && self.range.len().is_multiple_of(self.segment)
    }
}

/// Bytes that wait for a socket before no more are made.
const MOST_BYTES: usize = 256 << 10;
/// Capacity in bytes that is kept when nothing waits.
const KEPT_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::transport::Inbox;

    /// Notes what it is given; takes nothing while it is closed.
    #[derive(Default)]
    struct Notes {
        batches: Vec<(Option<u16>, usize, usize)>,
        most: usize,
    }

    impl Datagrams for Notes {
        fn address(&self) -> Address {
            Address::Memory("notes".into())
        }

        fn poll_receive(&mut self, _: &mut Context<'_>, _: &mut Inbox) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            route: Route,
            bytes: &[u8],
            segment: usize,
        ) -> Poll<io::Result<usize>> {
            let sent = bytes.len().min(self.most * segment);
            if sent == 0 {
                return Poll::Pending;
            }
            self.most -= sent.div_ceil(segment);
            self.batches.push((route.peer.map(|peer| peer.port()), sent, segment));
            Poll::Ready(Ok(sent))
        }
    }

    fn put(outbox: &mut Outbox, port: u16, length: usize) {
        let peer = Some(([127, 0, 0, 1], port).into());
        let route = Some(Route { peer, local: None });
        outbox.put(|bytes| {
            bytes.resize(bytes.len() + length, 0);
            route
        });
    }

    #[test]
    fn datagrams_of_one_size_and_way_leave_together() {
        let mut outbox = Outbox::default();
        for (port, length) in [(1, 9), (1, 9), (1, 5), (1, 5), (2, 5), (2, 9), (2, 9)] {
            put(&mut outbox, port, length);
        }
        assert!(!outbox.put(|_| None));
        let mut socket = Notes { most: 100, ..Notes::default() };
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(outbox.poll_send(cx, &mut socket).is_ready());
        assert_eq!(
            socket.batches,
            [(Some(1), 23, 9), (Some(1), 5, 5), (Some(2), 5, 5), (Some(2), 18, 9)]
        );
        assert_eq!((outbox.sent(), outbox.is_empty()), (7, true));
    }

    #[test]
    fn what_a_full_socket_does_not_take_waits() {
        let mut outbox = Outbox::default();
        (0..5).for_each(|_| put(&mut outbox, 1, 9));
        let mut socket = Notes { most: 2, ..Notes::default() };
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(outbox.poll_send(cx, &mut socket).is_pending());
        assert_eq!(outbox.sent(), 2);
        put(&mut outbox, 1, 4);
        socket.most = 100;
        assert!(outbox.poll_send(cx, &mut socket).is_ready());
        assert_eq!(socket.batches, [(Some(1), 18, 9), (Some(1), 31, 9)]);
        assert!(outbox.has_room());
    }
}
