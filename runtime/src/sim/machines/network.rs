//! Streams of bytes between a client and a run of a server, as a kernel and a bad network make them.
//!
//! Bytes come in order, in pieces of any size, at any time. A stream that breaks brings some prefix of what was
//! accepted, perhaps long after the client has another link; a half-open one brings nothing and tells nobody.

use std::collections::VecDeque;

use super::caller::Past;
use crate::limits::Limits;
use crate::protocol::assembly::{Assembly, AssemblyLimits};
use crate::protocol::packet;
use crate::time::Time;
use crate::wire::send_buffer::{Batch, SendBuffer};

/// Which of a link's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// One link.
pub(super) struct Pipe {
    pub(super) client: usize,
    pub(super) server: usize,
    pub(super) up: Stream,
    pub(super) down: Stream,
    /// What had happened to client and server when the server answered HELLO.
    pub(super) welcomed: Past,
    /// The server's end, until the server or the network ends it.
    pub(super) served: Option<End>,
}

/// Bytes that the writer's kernel accepted and the reader has not got.
pub(super) struct Stream {
    pub(super) bytes: VecDeque<u8>,
    /// A delivery is on its way.
    pub(super) scheduled: bool,
    /// Nothing more comes out.
    pub(super) swallowed: bool,
    /// Nothing more goes in, and after the last byte the reader is told.
    pub(super) closed: bool,
    /// Nothing comes out before.
    pub(super) stalled_until: Time,
}

/// What either end of a link holds.
pub(super) struct End {
    pub(super) out: SendBuffer,
    pub(super) batch: Batch,
    /// Received bytes that are no whole frame yet.
    pub(super) inbox: Vec<u8>,
    pub(super) assembly: Assembly,
    /// A look at `out` is on its way.
    pub(super) pump_scheduled: bool,
    /// At the server: the session and the link's number in it, after HELLO.
    pub(super) session: Option<(usize, u64)>,
    pub(super) carrier: Carrier,
    /// For when a timer of the carrier is set.
    pub(super) timer: Time,
}

/// What takes frames to the other end.
pub(super) enum Carrier {
    /// A stream.
    Stream,
    /// Datagrams, at a client.
    Client(Box<packet::ClientEnd>),
    /// Datagrams, at a server, with the link's id.
    Server { link: u64, end: Box<packet::ServerEnd> },
}

impl Pipe {
    pub(super) fn stream(&mut self, way: Way) -> &mut Stream {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

impl Stream {
    pub(super) fn new() -> Stream {
        Stream {
            bytes: VecDeque::new(),
            scheduled: false,
            swallowed: false,
            closed: false,
            stalled_until: Time::ZERO,
        }
    }

    /// Whether the writer need not wait.
    pub(super) fn has_room(&self, capacity: usize) -> bool {
        !self.closed && self.bytes.len() < capacity
    }

    /// Takes what the writer's end has, as far as there is room; how many bytes of it.
    pub(super) fn accept(&mut self, end: &mut End, capacity: usize, most: usize) -> usize {
        let room = capacity.saturating_sub(self.bytes.len()).min(most);
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let count = end.batch.slices(&mut slices);
        let mut accepted = 0;
        for slice in &slices[..count] {
            let size = slice.len().min(room - accepted);
            if !self.swallowed {
                self.bytes.extend(&slice[..size]);
            }
            accepted += size;
        }
        end.batch.advance(accepted);
        accepted
    }

    /// Nothing more goes in; of what is in, only the first `kept` bytes come out.
    pub(super) fn close(&mut self, kept: usize) {
        self.bytes.truncate(kept);
        self.closed = true;
    }
}

impl End {
    pub(super) fn new(message: usize) -> End {
        End {
            out: SendBuffer::default(),
            batch: Batch::default(),
            inbox: Vec::new(),
            assembly: Assembly::new(AssemblyLimits {
                message,
                bytes: ASSEMBLY_BYTES,
                messages: 1024,
            }),
            pump_scheduled: false,
            session: None,
            carrier: Carrier::Stream,
            timer: Time::NEVER,
        }
    }

    /// For a link of datagrams; its carrier is still to be made.
    pub(super) fn for_datagrams(limits: &Limits) -> End {
        let room = packet::ClientEnd::room(limits);
        End { out: SendBuffer::for_datagrams(room), ..End::new(limits.message) }
    }

    /// How far of what was written has left, as positions count.
    pub(super) fn accepted(&self) -> u64 {
        match self.carrier {
            Carrier::Stream => self.batch.accepted(),
            _ => self.out.taken_position(),
        }
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.batch.is_empty()
    }
}

/// Bytes of partly received messages of one link.
pub(super) const ASSEMBLY_BYTES: usize = 64 << 20;
