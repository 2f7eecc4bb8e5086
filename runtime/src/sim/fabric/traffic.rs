//! Bytes on their way: what reads and writes do, and how connections break under them.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::super::faults::one_in;
use super::super::pipe::{Ending, Found};
use super::super::trace::{Event, digest};
use super::{EndId, Incarnation, Late, Power, State};

impl State {
    /// Reads what has arrived; with the moment at which more will have, when there is nothing.
    pub(in crate::sim) fn poll_read(
        &mut self,
        end: EndId,
        cx: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<io::Result<()>, Instant>> {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return Poll::Pending;
        };
        let [writer, reader] = [1 - end.side, end.side];
        let way = (connection.ends[writer].home.host, connection.ends[reader].home.host);
        let pipe = &mut connection.pipes[writer];
        if connection.ends[reader].gone || self.blocked.contains(&way) {
            pipe.sleep_reader(cx);
            return Poll::Pending;
        }
        match pipe.read(self.now, into) {
            Found::Bytes(bytes) => {
                pipe.wake_writer(&mut self.woken);
                self.note(Event::Received { connection: end.connection, bytes });
                Poll::Ready(Ok(Ok(())))
            }
            Found::End(Ending::Finished) => Poll::Ready(Ok(Ok(()))),
            Found::End(Ending::Reset) => {
                Poll::Ready(Ok(Err(io::ErrorKind::ConnectionReset.into())))
            }
            Found::Later(moment) => {
                pipe.sleep_reader(cx);
                if end.side == 1 {
                    self.release_late(end.connection, [way.0, way.1], moment, false);
                }
                Poll::Ready(Err(moment))
            }
            Found::Nothing => {
                pipe.sleep_reader(cx);
                Poll::Pending
            }
        }
    }

    /// Takes bytes on their way, as many as there is room for and chance allows.
    pub(in crate::sim) fn poll_write(
        &mut self,
        end: EndId,
        cx: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let aborted = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        let Some(connection) = self.connections.get_mut(&end.connection) else { return aborted() };
        let (mine, other) = (end.side, 1 - end.side);
        if connection.ends[mine].gone || connection.pipes[mine].ending() == Some(Ending::Finished) {
            return aborted();
        }
        let [from, to] = [mine, other].map(|side| connection.ends[side].home);
        let told = !self.blocked.contains(&(to.host, from.host));
        if told && connection.pipes[other].is_reset(self.now) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = connection.pipes[mine].room();
        if room == 0 {
            connection.pipes[mine].sleep_writer(cx);
            return Poll::Pending;
        }
        let mut count = bytes.len().min(room);
        if one_in(&mut self.rng, PARTIAL_ONE_IN) {
            count = 1 + usize::try_from(self.rng.below(count as u64)).unwrap_or(0);
        }
        let arrives = self.send(end, from, to, &bytes[..count]);
        if mine == 0 {
            self.release_late(end.connection, [from.host, to.host], arrives, true);
        }
        if one_in(&mut self.rng, self.faults.cut_one_in) {
            self.cut(end.connection);
        } else if one_in(&mut self.rng, self.faults.half_open_one_in) {
            let side = usize::try_from(self.rng.below(2)).unwrap_or(0);
            self.half_open(end.connection, side);
        } else if self.hosts[to.host].power != Power::Off && !self.is_there(end) {
            self.answer_with_reset(end);
        }
        Poll::Ready(Ok(count))
    }

    /// When the bytes arrive.
    fn send(&mut self, end: EndId, from: Incarnation, to: Incarnation, bytes: &[u8]) -> Instant {
        let (from, to) = (self.name(from.host), self.name(to.host));
        let (connection, digest) = (end.connection, digest(bytes));
        self.note(Event::Sent { connection, from, to, bytes: bytes.len(), digest });
        self.counts.writes += 1;
        self.counts.bytes += bytes.len() as u64;
        // In two pieces now and then, so that readers see parts of frames.
        let split = if one_in(&mut self.rng, SPLIT_ONE_IN) {
            usize::try_from(self.rng.below(bytes.len() as u64)).unwrap_or(0)
        } else {
            0
        };
        for piece in [&bytes[..split], &bytes[split..]] {
            let stall = self.faults.draw_stall(&mut self.rng);
            self.counts.stalls += u64::from(!stall.is_zero());
            let arrives = self.now + self.faults.draw_delay(&mut self.rng) + stall;
            if let Some(connection) = self.connections.get_mut(&end.connection)
                && !piece.is_empty()
            {
                connection.pipes[end.side].push(piece, arrives);
                connection.pipes[end.side].wake_reader(&mut self.woken);
            }
        }
        let connection = self.connections.get(&end.connection);
        connection.map_or(self.now, |connection| connection.pipes[end.side].last_arrival())
    }

    /// Something arrives on a connection, and with it what lost ones before it had on the same way.
    fn release_late(&mut self, number: u64, way: [usize; 2], arrives: Instant, first: bool) {
        let State { late, connections, woken, .. } = self;
        late.retain(|late| {
            if late.connection >= number || late.way != way || late.first != first {
                return true;
            }
            if let Some(connection) = connections.get_mut(&late.connection) {
                connection.pipes[0].release(arrives);
                connection.pipes[0].wake_reader(woken);
            }
            false
        });
    }

    /// Whether somebody still holds the other side.
    fn is_there(&self, end: EndId) -> bool {
        self.connections.get(&end.connection).is_some_and(|it| !it.ends[1 - end.side].gone)
    }

    /// The other host knows nothing of this connection any more and says so.
    fn answer_with_reset(&mut self, end: EndId) {
        let (delay, _) = self.begin_connect();
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let pipe = &mut connection.pipes[1 - end.side];
        if pipe.ending() != Some(Ending::Reset) {
            pipe.reset(self.now + delay, &mut self.rng);
            pipe.wake_reader(&mut self.woken);
        }
    }

    /// Breaks a connection for both sides.
    pub(super) fn cut(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut torn = false;
        for pipe in &mut connection.pipes {
            let at = self.now + self.faults.draw_delay(&mut self.rng);
            torn |= pipe.reset(at, &mut self.rng);
            pipe.wake_reader(&mut self.woken);
            pipe.wake_writer(&mut self.woken);
        }
        self.counts.cuts += 1;
        self.counts.torn += u64::from(torn);
        self.note(Event::Cut { connection: number });
    }

    /// Breaks a connection; only one side is told.
    fn half_open(&mut self, number: u64, told: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let at = self.now + self.faults.draw_delay(&mut self.rng);
        connection.pipes[1 - told].reset(at, &mut self.rng);
        if told == 0 && one_in(&mut self.rng, 2) {
            connection.pipes[0].withhold();
            let way = [0, 1].map(|side| connection.ends[side].home.host);
            let first = one_in(&mut self.rng, 2);
            self.late.push(Late { connection: number, way, first });
        } else {
            connection.pipes[told].vanish(&mut self.rng);
        }
        connection.pipes[1 - told].wake_reader(&mut self.woken);
        let notices = connection.ends[told].home.host;
        self.counts.half_open += 1;
        self.note(Event::HalfOpened { connection: number, notices: self.name(notices) });
    }

    /// The writer has finished.
    pub(in crate::sim) fn finish(&mut self, end: EndId) {
        let at = self.now + self.faults.draw_delay(&mut self.rng);
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            connection.pipes[end.side].finish(at);
            connection.pipes[end.side].wake_reader(&mut self.woken);
        }
    }

    /// A side is dropped. As in TCP, what it had sent may be lost if it leaves bytes unread.
    pub(in crate::sim) fn drop_end(&mut self, end: EndId) {
        let at = self.now + self.faults.draw_delay(&mut self.rng);
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let (mine, other) = (end.side, 1 - end.side);
        if connection.ends[mine].gone {
            return self.forget_ended();
        }
        connection.ends[mine].gone = true;
        if connection.pipes[other].has_unread(self.now) {
            connection.pipes[mine].reset(at, &mut self.rng);
        } else {
            connection.pipes[mine].finish(at);
        }
        connection.pipes[other].abandon();
        connection.pipes[other].wake_writer(&mut self.woken);
        connection.pipes[mine].wake_reader(&mut self.woken);
        let by = connection.ends[mine].home.host;
        self.note(Event::Closed { connection: end.connection, by: self.name(by) });
        self.forget_ended();
    }

    pub(super) fn forget_ended(&mut self) {
        self.connections.retain(|_, connection| !connection.ends.iter().all(|end| end.gone));
    }
}

/// Of so many writes one is taken in part only.
const PARTIAL_ONE_IN: u32 = 16;
/// Of so many writes one arrives in two pieces.
const SPLIT_ONE_IN: u32 = 8;
