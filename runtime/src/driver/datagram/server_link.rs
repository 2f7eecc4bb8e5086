//! A server's end of one link over datagrams.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;

use super::outbox::Outbox;
use crate::driver::serving::{Desk, Place, Turn, Wait, drop_held};
use crate::driver::session::CellState;
use crate::protocol::client::Violation;
use crate::protocol::packet::{Ended, PacketStatistics, ServerEnd, Taken, frames};
use crate::time::Time;
use crate::transport::{Received, Route};
use crate::wire::bundle::ClientTag;
use crate::wire::datagram::Data;
use crate::wire::frame::{CloseCode, Frame, Kind, decode, decode_call, put_close, put_empty};

/// One link: its channel, its session, and when it is looked at next.
pub(super) struct ServerLink {
    end: ServerEnd,
    desk: Desk,
    /// Which of this machine's addresses the client sends to, where there is a choice.
    local: Option<IpAddr>,
    /// When it is in the list of timers; never if it is not.
    pub(super) due: Time,
    /// It waits to be settled.
    pub(super) touched: bool,
    /// Datagrams came since it was settled.
    input: bool,
    /// Datagrams that were lost, and with something sent again, as the server counts already.
    lost: u64,
    resent: u64,
    /// When it was last asked which calls are finished, since they hold references.
    asked: Time,
    _place: Place,
}

/// Why a link is over.
pub(super) enum Over {
    /// The client knows, or nobody is there to be told.
    Silently(&'static str),
    /// The client said so.
    Closed(CloseCode),
    /// The client is told.
    Told(CloseCode, String),
}

/// What is left to do for a link.
pub(super) struct Settled {
    /// Nothing before this moment, unless something comes.
    pub(super) wanted: Time,
    /// Datagrams that turned out to be lost, and with something sent again.
    pub(super) lost: u64,
    pub(super) resent: u64,
    /// More could leave than the outbox holds.
    pub(super) more: bool,
    /// All that was sent has arrived, and nothing waits.
    pub(super) idle: bool,
}

impl ServerLink {
    pub(super) fn new(
        end: ServerEnd,
        desk: Desk,
        local: Option<IpAddr>,
        place: Place,
    ) -> ServerLink {
        ServerLink {
            end,
            desk,
            local,
            due: Time::NEVER,
            touched: false,
            input: false,
            lost: 0,
            resent: 0,
            asked: Time::ZERO,
            _place: place,
        }
    }

    /// Where the client is, and where it sends to.
    pub(super) fn route(&self) -> (SocketAddr, Option<IpAddr>) {
        (self.end.address(), self.local)
    }

    /// Whose link it is.
    pub(super) fn client(&self) -> ClientTag {
        ClientTag::of(self.desk.cell.lock().session.client())
    }

    /// Handles one datagram, which has waited.
    pub(super) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        wait: Wait,
        turn: &mut Turn,
        received: &Received<'_>,
        data: &Data<'_>,
    ) -> Result<(), Over> {
        let now = turn.now;
        self.input = true;
        if !self.end.accept(now, received.from, data, received.bytes.len()) {
            return Ok(());
        }
        if received.from == self.end.address() {
            self.local = received.local;
        }
        let handled = self.handle_frames(cx, wait, turn, data);
        self.desk.settle(turn.now);
        handled?;
        self.end.datagram_handled();
        self.desk.count_assembly(self.end.assembling());
        Ok(())
    }

    fn handle_frames(
        &mut self,
        cx: &mut Context<'_>,
        wait: Wait,
        turn: &mut Turn,
        data: &Data<'_>,
    ) -> Result<(), Over> {
        for frame in frames(data.frames) {
            let now = turn.now;
            let frame = frame.map_err(|error| Over::from(Ended::from(error)))?;
            match self.channel(now, frame)? {
                Taken::Here | Taken::PathResponse(_) => {}
                Taken::Frame => self.handle(cx, wait, now, frame, None)?,
                Taken::Message(message) => {
                    let message = Bytes::from(message);
                    self.handle(cx, wait, now, &message, Some(&message))?;
                }
                Taken::Refused { seq, excess } => self.desk.refuse(now, seq, excess)?,
            }
            // A datagram is handled to its end; how late it gets is told to the calls that are left.
            turn.is_over(&self.desk.server.clock);
        }
        Ok(())
    }

    /// Gives a frame to the channel first.
    #[inline]
    fn channel(&mut self, now: Time, frame: &[u8]) -> Result<Taken, Over> {
        if self.end.passes_on(now, frame) {
            return Ok(Taken::Frame);
        }
        let room = self.desk.has_room(frame.len());
        let (number, end) = (self.desk.link, &mut self.end);
        let taken = self.desk.settled(now, |state| {
            if let Some(link) = &mut state.link {
                // The task looks at the send buffer before it sleeps; nobody need ring for that.
                link.scheduled |= link.number == number;
            }
            end.handle(now, frame, &mut state.session, room)
        });
        Ok(taken?)
    }

    /// Handles a frame that is complete; with a whole `message` its arguments are shared.
    #[inline]
    fn handle(
        &mut self,
        cx: &mut Context<'_>,
        wait: Wait,
        now: Time,
        frame: &[u8],
        message: Option<&Bytes>,
    ) -> Result<(), Over> {
        let shared = |arguments: &[u8]| {
            message.map(|message| message.slice(message.len() - arguments.len()..))
        };
        if let Some(Ok(call)) = &decode_call(frame) {
            return Ok(self.desk.handle_call(cx, now, wait, call, shared(call.arguments))?);
        }
        match decode(frame).map_err(Ended::from)? {
            Frame::Close { code, .. } => Err(Over::Closed(code)),
            Frame::Call(call) => {
                let arguments = shared(call.arguments)
                    .unwrap_or_else(|| Bytes::copy_from_slice(call.arguments));
                Ok(self.desk.handle_passing(cx, now, wait, &call, arguments)?)
            }
            frame => Ok(self.desk.handle(now, frame)?),
        }
    }

    /// Does what is due, and puts what may leave now into `outbox`.
    pub(super) fn settle(&mut self, now: Time, outbox: &mut Outbox) -> Result<Settled, Over> {
        if std::mem::take(&mut self.input) {
            self.end.after_input();
        }
        if self.end.next_timeout() <= now {
            self.end.handle_timeout(now)?;
        }
        let mut state = self.desk.cell.lock();
        let CellState { session, link, kept, .. } = &mut *state;
        let Some(link) = link.as_mut().filter(|link| link.number == self.desk.link) else {
            return Err(Over::Silently("a newer link took over"));
        };
        if session.next_timeout() <= now {
            session.handle_timeout(now, &mut link.out)?;
        }
        if link.out.pending() > self.desk.most_pending() {
            let text = "the peer asks more than it reads".to_owned();
            return Err(Over::Told(CloseCode::Violation, text));
        }
        // Its client tells only with the next call which calls are finished whose replies did not arrive.
        if kept.is_some() && self.asked + ASK_AGAIN <= now {
            self.asked = now;
            put_empty(Kind::NeedAck, link.out.small());
        }
        if let Some(back) = &link.back.0 {
            back.transmit(&mut link.out, self.desk.server.limits.send_buffer);
        }
        let mut more = true;
        while more && outbox.has_room() {
            let (end, local, out) = (&mut self.end, self.local, &mut link.out);
            more = outbox.put(|into| {
                let peer = end.transmit(now, session, out, into)?;
                Some(Route { peer: Some(peer), local })
            });
        }
        link.scheduled = more;
        let wanted = self.end.next_timeout().min(session.next_timeout());
        let waits = !link.out.is_empty() || session.has_waiting_replies();
        let idle = !waits && self.end.is_idle();
        let finished = state.take_finished();
        drop(state);
        drop_held(finished);
        let PacketStatistics { lost, resent, .. } = self.end.statistics();
        let lost = lost - std::mem::replace(&mut self.lost, lost);
        let resent = resent - std::mem::replace(&mut self.resent, resent);
        self.desk.count_assembly(self.end.assembling());
        Ok(Settled { wanted, lost, resent, more, idle })
    }

    /// The link is over. The last datagram, if the client is told, goes into `outbox`.
    pub(super) fn finish(mut self, now: Time, over: &Over, outbox: &mut Outbox) {
        match over {
            Over::Silently(_) => {}
            Over::Closed(code) => {
                self.desk.closed_by_client(*code);
            }
            Over::Told(code, text) if !self.desk.server.dead.load(Ordering::Acquire) => {
                self.say_close(now, *code, text, outbox);
            }
            Over::Told(..) => {}
        }
    }

    fn say_close(&mut self, now: Time, code: CloseCode, text: &str, outbox: &mut Outbox) {
        let mut state = self.desk.cell.lock();
        let CellState { session, link, .. } = &mut *state;
        let Some(link) = link.as_mut().filter(|link| link.number == self.desk.link) else { return };
        put_close(code, text, link.out.small());
        let mut left = true;
        while left && outbox.has_room() {
            let (end, local, out) = (&mut self.end, self.local, &mut link.out);
            left = outbox.put(|into| {
                let peer = end.transmit(now, session, out, into)?;
                Some(Route { peer: Some(peer), local })
            });
        }
    }
}

impl Drop for ServerLink {
    /// However the task ends: the session goes on without this link, and the budget has its bytes back.
    fn drop(&mut self) {
        self.desk.detach();
    }
}

/// Least time between two questions.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl From<Ended> for Over {
    fn from(ended: Ended) -> Over {
        match ended {
            Ended::Closed { code, .. } => Over::Closed(code),
            Ended::Violation(what) => Over::Told(CloseCode::Violation, what.to_owned()),
            Ended::Malformed(error) => Over::Told(CloseCode::Violation, error.to_string()),
            Ended::Silent => Over::Silently("the peer is silent"),
            Ended::Stalled => {
                Over::Told(CloseCode::Violation, "a large message does not go on".to_owned())
            }
            Ended::Unknown => Over::Silently("the client does not know the link"),
        }
    }
}

impl From<Violation> for Over {
    fn from(violation: Violation) -> Over {
        Ended::from(violation).into()
    }
}
