//! What happens to streams: they carry bytes, stall, break, and bring old frames late.

use std::time::Duration;

use super::network::{Pipe, Way};
use super::plan::TTL_US;
use super::world::{Event, Step, World, violation};
use crate::id::{Seq, SessionId};
use crate::wire::frame::{self, Ranges};

impl World {
    /// A client's link breaks, in one of the ways in which links break.
    pub(super) fn cut(&mut self, client: usize) {
        let Some(pipe) = self.clients[client].link else { return };
        let (soon, later) = (self.rng.spread(1, 20_000), self.rng.spread(1000, 2 * TTL_US));
        let kind = self.rng.below(4);
        self.trace.note(self.now, 10, kind);
        self.trace.line(self.now, || format!("network: link {pipe} breaks ({kind})"));
        match kind {
            // Both ends are told.
            0 => {
                let kept = self.cut_at(pipe, Way::Up);
                self.pipes[pipe].up.close(kept);
                self.schedule_delivery(pipe, Way::Up);
                self.after(soon, Event::ClientLost { client, pipe });
            }
            // Nobody is told.
            1 => {
                self.pipes[pipe].up.swallowed = true;
                self.pipes[pipe].down.swallowed = true;
                self.after(later, Event::ServerLost { pipe });
            }
            // The client is told, and its bytes arrive late.
            2 => {
                self.pipes[pipe].up.stalled_until = self.now + Duration::from_micros(later);
                self.after(soon.min(500), Event::ClientLost { client, pipe });
            }
            // What the server sends is lost.
            _ => {
                self.pipes[pipe].down.swallowed = true;
                self.after(soon, Event::ClientLost { client, pipe });
            }
        }
    }

    /// How many bytes of a broken stream still arrive.
    pub(super) fn cut_at(&mut self, pipe: usize, way: Way) -> usize {
        let stream = self.pipes[pipe].stream(way);
        let length = stream.bytes.len();
        if stream.closed || length == 0 {
            return length;
        }
        match self.rng.below(3) {
            0 => 0,
            1 => length,
            _ => self.rng.below(length as u64 + 1) as usize,
        }
    }

    pub(super) fn schedule_delivery(&mut self, pipe: usize, way: Way) {
        if self.has_datagrams() {
            return;
        }
        let stalled = !self.has_healed() && self.rng.chance(self.plan.stalls);
        let delay = match stalled {
            true => self.rng.spread(self.plan.latency_us, TTL_US),
            false => self.rng.between(self.plan.latency_us / 2, self.plan.latency_us),
        };
        let stream = self.pipes[pipe].stream(way);
        if !stream.scheduled {
            stream.scheduled = true;
            self.after(delay, Event::Deliver { pipe, way });
        }
    }

    /// The writer of a stream hands its kernel what it has.
    pub(super) fn pump(&mut self, pipe: usize, way: Way) -> Step {
        let most = if self.rng.chance(100) { 1 + self.rng.below(100) as usize } else { usize::MAX };
        let Pipe { client, server, up, down, served, .. } = &mut self.pipes[pipe];
        let server = *server;
        let client = *client;
        let owner = &mut self.clients[client];
        let (end, stream) = match (way, served) {
            (Way::Up, _) if owner.link == Some(pipe) => (&mut owner.end, up),
            (Way::Down, Some(end)) => (end, down),
            _ => return Ok(()),
        };
        end.pump_scheduled = false;
        if stream.closed {
            return Ok(());
        }
        let mut accepted = 0;
        loop {
            if end.batch.is_empty() {
                if end.out.is_empty() {
                    break;
                }
                end.out.fill(&mut end.batch);
                if way == Way::Up {
                    owner.machine.drained(self.now, &mut end.out);
                } else if let Some((cell, link)) = end.session {
                    let session = &mut self.servers[server].cells[cell].session;
                    if session.is_newest(link) {
                        session.flush(&mut end.out);
                    }
                }
            }
            let taken = stream.accept(end, self.plan.kernel, most);
            accepted += taken;
            if taken == 0 || !end.batch.is_empty() {
                break;
            }
        }
        if accepted > 0 {
            self.schedule_delivery(pipe, way);
        }
        match way {
            Way::Up => self.settle_client(client),
            Way::Down => Ok(()),
        }
    }

    /// Some bytes of a stream arrive.
    pub(super) fn deliver(&mut self, pipe: usize, way: Way) -> Step {
        let pieces = self.rng.chance(300);
        let stream = self.pipes[pipe].stream(way);
        if stream.stalled_until > self.now {
            let until = stream.stalled_until;
            self.at(until, Event::Deliver { pipe, way });
            return Ok(());
        }
        stream.scheduled = false;
        let mut count = stream.bytes.len();
        if pieces && count > 1 {
            count = 1 + self.rng.below(count as u64) as usize;
        }
        let stream = self.pipes[pipe].stream(way);
        let bytes: Vec<u8> = stream.bytes.drain(..count).collect();
        let (swallowed, left, ends) =
            (stream.swallowed, !stream.bytes.is_empty(), stream.closed && stream.bytes.is_empty());
        let client = self.pipes[pipe].client;
        if !swallowed && way == Way::Up {
            self.server_received(pipe, &bytes)?;
        } else if !swallowed {
            self.client_received(client, pipe, &bytes)?;
        }
        if left {
            self.schedule_delivery(pipe, way);
        }
        if ends && !swallowed {
            match way {
                Way::Up => self.server_lost(pipe),
                Way::Down => self.client_lost(client, pipe)?,
            }
        }
        self.pump(pipe, way)
    }

    /// Perhaps the network brings this frame again.
    pub(super) fn repeat_later(&mut self, way: Way, client: usize, bytes: &[u8]) {
        if self.has_healed() || !self.rng.chance(self.plan.duplicates) {
            return;
        }
        let Some((_, session)) = self.clients[client].machine.session() else { return };
        self.again_later(way, client, session, bytes);
    }

    /// The network brings this frame some time later.
    pub(super) fn again_later(
        &mut self,
        way: Way,
        client: usize,
        session: SessionId,
        bytes: &[u8],
    ) {
        let delay = self.rng.spread(10, 5 * TTL_US);
        let bytes = bytes.to_vec();
        self.after(delay, Event::Again { way, client, session, bytes });
    }

    /// Whether this call is overtaken by what was sent after it.
    pub(super) fn is_overtaken(&mut self) -> bool {
        !self.has_healed() && self.rng.chance(self.plan.overtaken)
    }

    /// A call arrives later. What it tells is not overtaken: where calls are, frames of their own tell it.
    pub(super) fn hold_back(
        &mut self,
        server: usize,
        cell: usize,
        floor: Seq,
        bytes: &[u8],
    ) -> Step {
        self.trace.line(self.now, || "network: holds it back".to_owned());
        let cell = &mut self.servers[server].cells[cell];
        let (client, session) = (cell.client, cell.session.id());
        let told = cell.session.acknowledge(floor, &Ranges::new());
        self.again_later(Way::Up, client, session, bytes);
        told.map_err(|error| violation("server", &error.0))
    }

    /// The network brings a frame again, on whatever link its session has now.
    pub(super) fn again(
        &mut self,
        way: Way,
        client: usize,
        session: SessionId,
        bytes: &[u8],
    ) -> Step {
        let end = &self.clients[client];
        let server = end.server;
        self.trace.note(self.now, 11, bytes.len() as u64);
        if way == Way::Down {
            let same = end.machine.session().is_some_and(|(_, id)| id == session);
            if !same || !end.machine.is_welcome() || end.paused_until > self.now {
                return Ok(());
            }
            self.events_counted.duplicates += 1;
            self.trace.line(self.now, || format!("network: again to client {client}"));
            self.client_frame(client, bytes)?;
            return self.settle_client(client);
        }
        let mut cells = self.servers[server].cells.iter();
        let Some(cell) = cells.position(|cell| cell.live && cell.session.id() == session) else {
            return Ok(());
        };
        let Ok(frame) = frame::decode(bytes) else { return Ok(()) };
        self.events_counted.duplicates += 1;
        if self.trace.is_recording() {
            let text = super::client::describe(&frame);
            self.trace.line(self.now, || format!("network: again to server {server}: {text}"));
        }
        self.session_frame(server, cell, None, &frame)
    }
}
