//! A client's links: handshake, resume, and what becomes of calls when a link is lost.

use std::io;
use std::sync::Arc;

use super::acks::Acks;
use super::slots::{State, Why};
use super::{Arrival, Client, Violation};
use crate::error::CallError;
use crate::id::{Boot, Seq, SessionId};
use crate::semantics::{Execution, Semantics};
use crate::time::Time;
use crate::wire::frame::{self, Hello, Ranges, Resume, Welcome};
use crate::wire::send_buffer::SendBuffer;

/// What the server's present run keeps for this client.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) boot: Boot,
    pub(super) next_seq: Seq,
    pub(super) window: usize,
    pub(super) request_bytes: usize,
    pub(super) reply_bytes: usize,
    pub(super) max_message: usize,
}

/// Where the newest link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Down,
    /// HELLO was sent.
    Greeting {
        nonce: u64,
        until: Time,
    },
    /// WELCOME came.
    Up {
        heard: Time,
        /// When the PING that is not answered was sent.
        pinged: Option<Time>,
        /// GOAWAY came.
        draining: bool,
    },
}

impl Link {
    /// Whether the server hears what is said.
    #[inline]
    pub(super) fn is_welcome(&self) -> bool {
        matches!(self, Link::Up { .. })
    }

    /// Whether the server takes calls.
    #[inline]
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Link::Up { draining: false, .. })
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Link::Up { draining: true, .. })
    }
}

impl<W> Client<W> {
    /// A link is made: says HELLO. `nonce` must be drawn for this link.
    pub(crate) fn connected(&mut self, now: Time, nonce: u64, out: &mut SendBuffer) {
        self.link_number += 1;
        self.statistics.links += 1;
        let until = now + self.config.limits.handshake_timeout;
        self.link = Link::Greeting { nonce, until };
        let resume = self.session.as_ref().map(|session| {
            let (floor, ranges) =
                self.acks.tell_all(if self.config.datagrams { MOST_RANGES } else { usize::MAX });
            Resume { session: session.id, floor, ranges }
        });
        let hello = Hello {
            client: self.config.node,
            nonce,
            link: self.link_number,
            max_message: self.own_max_message() as u64,
            resume,
        };
        frame::put_hello(&hello, out.small());
    }

    /// No link could be made. Calls wait for the next attempt; whoever waits for a lookup is told.
    pub(crate) fn unreachable(&mut self, error: Arc<io::Error>) {
        let peer = self.config.peer.clone();
        self.fail_bindings(&CallError::Unreachable { peer, source: error.clone() });
        self.unreachable = Some(error);
    }

    /// The link is lost; the kernel had accepted its small frames up to `accepted`, and `out` holds what it had not
    /// been offered. Calls that cannot have left are queued again, maybe calls end, the others wait.
    pub(crate) fn link_lost(
        &mut self,
        now: Time,
        accepted: u64,
        out: &SendBuffer,
        error: &Arc<io::Error>,
    ) {
        self.link = Link::Down;
        let mut queue: Vec<_> = Vec::new();
        for index in self.slots.unfinished() {
            let Some(slot) = self.slots.at_mut(index) else { continue };
            if slot.state == State::Queued {
                continue;
            }
            if slot.link == self.link_number && slot.attempt > 0 {
                let left = slot.position <= accepted
                    && !out.has_unsent(slot.seq)
                    && !cfg_canary!("what_left_counts_as_never_sent");
                slot.sent_before |= left;
                if !left && !slot.sent_before {
                    slot.attempt = 0;
                }
            }
            let (sent, state) = (slot.sent_before, slot.state);
            match (state, slot.semantics) {
                (State::Resolving(why), _) => self.fail_given_up(now, index, why, false),
                (_, Semantics::Maybe) if sent => {
                    let (peer, source) = (self.config.peer.clone(), error.clone());
                    let execution = Execution::Unknown;
                    self.fail(index, CallError::Link { peer, source, execution });
                }
                _ if !sent => {
                    slot.state = State::Queued;
                    queue.extend(self.slots.key(index));
                }
                _ => {}
            }
        }
        queue.extend(self.queue.drain(..));
        self.queue = queue.into();
    }

    /// The server answered HELLO.
    pub(super) fn on_welcome(
        &mut self,
        now: Time,
        welcome: &Welcome,
        out: &mut SendBuffer,
    ) -> Result<(), Violation> {
        match self.link {
            Link::Greeting { nonce, .. } if nonce == welcome.nonce => {}
            _ => return Err(Violation("WELCOME that answers no HELLO of this link")),
        }
        let same = self.session.as_ref().is_some_and(|session| {
            let boot = session.boot == welcome.boot || cfg_canary!("boots_are_not_compared");
            session.id == welcome.session && boot
        });
        if welcome.resumed != same {
            return Err(Violation("WELCOME that resumes another session than asked for"));
        }
        self.link = Link::Up { heard: now, pinged: None, draining: false };
        self.unreachable = None;
        self.arrived(Arrival::Session(welcome.session));
        if welcome.resumed {
            self.resume(&welcome.known);
        } else {
            self.begin_session(welcome);
        }
        self.ask_all(!welcome.resumed, out);
        self.flush_queue(now, out);
        Ok(())
    }

    /// The same session goes on: what the server does not have is sent again, under the same number.
    fn resume(&mut self, known: &Ranges) {
        let mut again = Vec::new();
        for index in self.slots.unfinished() {
            let Some(slot) = self.slots.at_mut(index) else { continue };
            if slot.state == State::Sent && !holds(known, slot.seq) {
                slot.state = State::Queued;
                if cfg_canary!("resending_takes_a_new_number") {
                    self.by_seq.remove(slot.seq);
                    self.acks.finished(slot.seq, 0, Time::NEVER);
                    slot.seq = 0;
                }
                again.extend(self.slots.key(index));
            }
        }
        self.requeue(again);
    }

    /// The server has another run or has given the session up: calls that may have run are sent again only under
    /// at-least-once, in the new session and under a new number.
    fn begin_session(&mut self, welcome: &Welcome) {
        let restarted = self.session.as_ref().is_some_and(|old| old.boot != welcome.boot);
        self.statistics.sessions += 1;
        let mut again = Vec::new();
        for index in self.slots.unfinished() {
            let Some(slot) = self.slots.at_mut(index) else { continue };
            let retry =
                slot.semantics == Semantics::AtLeastOnce || cfg_canary!("new_number_after_restart");
            if slot.sent_before && !retry {
                let lost =
                    if restarted { CallError::ServerRestarted } else { CallError::SessionExpired };
                self.fail(index, lost);
            } else {
                slot.seq = 0;
                if slot.state == State::Sent {
                    slot.state = State::Queued;
                    again.extend(self.slots.key(index));
                }
            }
        }
        self.requeue(again);
        self.by_seq.clear();
        self.acks = Acks::new(self.config.datagrams);
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.session = Some(Session {
            id: welcome.session,
            boot: welcome.boot,
            next_seq: 1,
            window: size(welcome.window).min(self.config.limits.window),
            request_bytes: size(welcome.request_bytes).min(self.config.limits.request_bytes),
            reply_bytes: size(welcome.reply_bytes),
            max_message: size(welcome.max_message),
        });
    }

    /// The server begins nothing new, and what is not in `known` never runs.
    pub(super) fn on_go_away(&mut self, now: Time, known: &Ranges) {
        if let Link::Up { draining, .. } = &mut self.link {
            *draining = true;
        }
        let mut later = Vec::new();
        for index in self.slots.unfinished() {
            let Some(slot) = self.slots.at_mut(index) else { continue };
            let there = slot.seq != 0 && holds(known, slot.seq);
            match (slot.semantics, slot.state) {
                (_, State::Resolving(why)) if !there && slot.semantics == Semantics::AtMostOnce => {
                    self.fail_with(now, index, why, Execution::NotExecuted, false);
                }
                (Semantics::AtLeastOnce, State::Sent) if !there => {
                    slot.state = State::Queued;
                    slot.sent_before = true;
                    later.extend(self.slots.key(index));
                }
                (Semantics::AtLeastOnce, _) => {}
                // The server keeps no record of what runs under maybe, and so cannot tell.
                (Semantics::Maybe, State::Sent) => {}
                _ if !there => self.fail(index, super::shutting_down()),
                _ => {}
            }
        }
        self.requeue(later);
    }

    /// The server, which begins nothing new, has refused this call under at-least-once: it waits for the next server.
    pub(super) fn put_off(&mut self, index: u32) {
        if let Link::Up { draining, .. } = &mut self.link {
            *draining = true;
        }
        if let Some(slot) = self.slots.at_mut(index) {
            slot.state = State::Queued;
            if slot.attempt == 1 && !slot.sent_before {
                // What is refused never runs, whichever copy of it comes.
                slot.attempt = 0;
            }
        }
        self.requeue(self.slots.key(index).into_iter().collect());
    }

    /// A planted bug: what anybody may have sent ends the session.
    pub(crate) fn forget_session(&mut self) {
        self.session = None;
    }

    /// Puts calls before all others that wait.
    fn requeue(&mut self, mut keys: Vec<super::Key>) {
        keys.extend(self.queue.drain(..));
        self.queue = keys.into();
    }

    /// The run of the server and the session that this client is bound to.
    pub(crate) fn session(&self) -> Option<(Boot, SessionId)> {
        self.session.as_ref().map(|session| (session.boot, session.id))
    }

    /// Whether the handshake of the newest link is finished.
    pub(crate) fn is_welcome(&self) -> bool {
        self.link.is_welcome()
    }

    pub(super) fn why_of(state: State) -> Why {
        if let State::Resolving(why) = state { why } else { Why::Cancelled }
    }
}

/// Ranges of finished calls in a HELLO that must fit a datagram; the others are told on the link.
const MOST_RANGES: usize = 32;

fn holds(ranges: &Ranges, seq: Seq) -> bool {
    let index = ranges.partition_point(|&(_, end)| end <= seq);
    ranges.get(index).is_some_and(|&(start, _)| start <= seq)
}
