//! Handles what comes on one link of a session, however it came: over a stream or in datagrams.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::handler::{self, Handler};
use super::passing::{Passed, Scope};
use crate::context::{Caller, CancelSource, SessionContext};
use crate::dispatch::Room;
use crate::driver::handles::Found;
use crate::driver::lock;
use crate::driver::server::Server;
use crate::driver::session::{Cell, CellState, Held, LinkOut};
use crate::error::FailureCode;
use crate::id::Seq;
use crate::protocol::assembly::Excess;
use crate::protocol::client::Violation;
use crate::protocol::server::Resolved;
use crate::time::Time;
use crate::wire::frame::{self, BoundResult, CloseCode, Frame, Kind, Lookup};
use crate::wire::send_buffer::SendBuffer;

/// One link of a session.
pub(in crate::driver) struct Desk {
    pub(in crate::driver) server: Arc<Server>,
    pub(in crate::driver) cell: Arc<Cell>,
    /// The number of this link in its session.
    pub(in crate::driver) link: u64,
    pub(super) context: Arc<SessionContext>,
    /// That of the latest call that was answered in place, for the next one.
    pub(super) handler: Option<Box<Handler>>,
    /// The session does not know its answer yet.
    pub(super) answered: bool,
    /// The session's share of the process's budget is held back, for the calls of one batch.
    pub(super) holds: bool,
    /// For the next calls, by the positions of their methods.
    pub(super) rooms: [Room; ROOMS],
    /// Bytes of partly received messages that the process budget counts.
    assembling: usize,
    /// Who calls.
    pub(super) scope: Scope,
    /// The references of the call that is handled just now.
    pub(super) passed: Option<Box<Passed>>,
}

impl Desk {
    /// A link with this number, from `peer`.
    pub(in crate::driver) fn new(
        server: Arc<Server>,
        cell: Arc<Cell>,
        link: u64,
        peer: Arc<str>,
    ) -> Desk {
        let cancel: Arc<dyn CancelSource> = cell.clone();
        let context = Arc::new(SessionContext {
            caller: Caller::new(cell.client, peer, None),
            boot: server.boot,
            session: cell.id,
            began: server.clock.began(),
            cancel: Arc::downgrade(&cancel),
        });
        Desk {
            server,
            cell,
            link,
            context,
            handler: None,
            answered: false,
            holds: false,
            rooms: Default::default(),
            assembling: 0,
            scope: Scope::default(),
            passed: None,
        }
    }

    /// Says who calls.
    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// Handles a frame that is complete and no call.
    pub(in crate::driver) fn handle(
        &mut self,
        now: Time,
        frame: Frame<'_>,
    ) -> Result<(), Violation> {
        self.settle(now);
        match frame {
            Frame::Lookup(lookup) => self.handle_lookup(lookup),
            Frame::Back(back) => self.handle_back(&back),
            frame => self.handle_control(now, &frame),
        }
    }

    /// Tells the session of the call that was answered last, and the process's budget what it held back. To be called
    /// before anything else is done than to handle another call, which sees to it with the lock that it takes anyway.
    #[inline]
    pub(in crate::driver) fn settle(&mut self, now: Time) {
        if self.answered || self.holds {
            self.holds = false;
            self.settled(now, |state| state.session.tell_budget());
        }
    }

    /// Works on the session when it knows of the call that was answered last.
    #[inline]
    pub(in crate::driver) fn settled<R>(
        &mut self,
        now: Time,
        work: impl FnOnce(&mut CellState) -> R,
    ) -> R {
        let mut state = self.cell.lock();
        if std::mem::take(&mut self.answered)
            && let Some(handler) = &mut self.handler
        {
            handler.finish(now, &mut state);
        }
        work(&mut state)
    }

    fn handle_control(&mut self, now: Time, frame: &Frame<'_>) -> Result<(), Violation> {
        self.with_out(|state, out| match frame {
            Frame::CallAck { floor, ranges } => state.session.acknowledge(*floor, ranges),
            Frame::Resolve { seq } => {
                if state.session.resolve(now, *seq, out)? == Resolved::Cancel {
                    state.cancel(*seq);
                }
                Ok(())
            }
            Frame::Ping(nonce) => {
                frame::put_nonce(Kind::Pong, *nonce, out.small());
                Ok(())
            }
            Frame::Pong(_) => Ok(()),
            _ => Err(Violation("a frame that clients do not send")),
        })
    }

    /// A request of which only a part has come does not fit.
    pub(in crate::driver) fn refuse(
        &self,
        now: Time,
        seq: Seq,
        excess: Excess,
    ) -> Result<(), Violation> {
        let (code, text) = match excess {
            Excess::Message => (FailureCode::TooLarge, "the request is over the limit"),
            Excess::Room => (FailureCode::Busy, "there is no room for the request"),
        };
        self.with_out(|state, out| state.session.refuse(now, seq, code, text, out))
    }

    fn handle_lookup(&mut self, lookup: Lookup<'_>) -> Result<(), Violation> {
        if lookup.handle as usize >= self.server.limits.handles {
            return Err(Violation("a handle over the limit"));
        }
        let slot = self.resolve(lookup.object, lookup.handle);
        self.with_out(|state, out| {
            let found = match slot {
                Some(slot) => {
                    let Lookup { handle, object, interface, methods } = lookup;
                    state.handles.put(handle, object, interface, methods, slot)
                }
                None => Found::Refused {
                    code: FailureCode::Busy,
                    text: "too many names that nobody has bound are asked for".into(),
                },
            };
            let result = match &found {
                Found::Object { verdicts, methods } => {
                    BoundResult::Object { verdicts: verdicts.clone(), methods }
                }
                Found::Refused { code, text } => BoundResult::Failed { code: *code, text },
            };
            frame::put_bound(lookup.handle, &result, out.small());
        });
        let replaced = self.cell.lock().handles.take_replaced();
        handler::drop_objects(replaced);
        Ok(())
    }

    /// Works on the session with the send buffer of this link; an older link has none, and what it would say is lost
    /// with it.
    #[inline]
    pub(in crate::driver) fn with_out<R>(
        &self,
        work: impl FnOnce(&mut CellState, &mut SendBuffer) -> R,
    ) -> R {
        let mut state = self.cell.lock();
        let mut out = match &mut state.link {
            Some(link) if link.number == self.link => std::mem::take(&mut link.out),
            _ => SendBuffer::default(),
        };
        let result = work(&mut state, &mut out);
        if let Some(link) = &mut state.link
            && link.number == self.link
        {
            link.out = out;
        }
        result
    }

    /// The client ended the link, and with it the session if this is its newest link.
    pub(in crate::driver) fn closed_by_client(&self, code: CloseCode) -> io::Error {
        let newest = self.cell.lock().session.is_newest(self.link);
        if newest && code == CloseCode::Done {
            lock(&self.server.sessions).remove(self.cell.id);
            self.cell.over();
        }
        io::ErrorKind::UnexpectedEof.into()
    }

    /// As [`settle`](Self::settle), at the end of a turn. Whether more is to be said on this link than its peer can have
    /// asked for and read.
    #[inline]
    pub(in crate::driver) fn end_turn(&mut self, now: Time) -> bool {
        let most = self.most_pending();
        self.holds = false;
        let (flooded, finished) = self.settled(now, |state| {
            state.session.tell_budget();
            let flooded = state.link.as_ref().is_some_and(|link| link.out.pending() > most);
            (flooded, state.take_finished())
        });
        drop_held(finished);
        flooded
    }

    /// Bytes that wait for a peer at most before it is flooded.
    pub(in crate::driver) fn most_pending(&self) -> usize {
        self.server.limits.send_buffer + self.server.limits.control_backlog
    }

    /// Whether there is room for so many more bytes of partly received messages.
    pub(in crate::driver) fn has_room(&self, bytes: usize) -> bool {
        self.server.budget.may_save(bytes, &self.server.limits)
    }

    /// Partly received messages of this link take so many bytes now.
    pub(in crate::driver) fn count_assembly(&mut self, bytes: usize) {
        if bytes == self.assembling {
            return;
        }
        if bytes > self.assembling {
            self.server.budget.save(bytes - self.assembling);
        } else {
            self.server.budget.unsave(self.assembling - bytes);
        }
        self.assembling = bytes;
    }

    /// The link is over. Returns what was still to be sent on it, unless a newer one took over.
    pub(in crate::driver) fn detach(&mut self) -> Option<LinkOut> {
        self.count_assembly(0);
        let now = self.server.clock.now();
        let mut state = self.cell.lock();
        state.session.tell_budget();
        state.session.detach(now, self.link);
        state.link.take_if(|link| link.number == self.link)
    }
}

/// Drops what held references; with them may go objects, whose `Drop` is the user's code, and may panic.
#[inline]
pub(in crate::driver) fn drop_held(held: Option<Vec<Held>>) {
    if held.is_some() && catch_unwind(AssertUnwindSafe(|| drop(held))).is_err() {
        tracing::error!("an object that nobody holds panicked when it was dropped");
    }
}

/// Ended calls whose memory a connection keeps.
pub(super) const ROOMS: usize = 4;
