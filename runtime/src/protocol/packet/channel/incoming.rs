//! What comes: datagrams once each, acknowledgements, pieces of large messages.

use super::{BlackHole, Channel, Content, Delivery};
use crate::id::Seq;
use crate::protocol::assembly::Excess;
use crate::protocol::client::Violation;
use crate::protocol::packet::FALLBACK_DATAGRAM;
use crate::protocol::packet::pieces::Gathered;
use crate::protocol::packet::sent::{Acked, Sent};
use crate::time::Time;
use crate::wire::datagram::Truncated;
use crate::wire::frame::{
    Ack, Frame, FrameError, Kind, ReplyStatus, decode, first_frame, put_nonce, put_reply,
};

/// What became of a frame.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It was the channel's own.
    Here,
    /// It is for the machine above.
    Frame,
    /// With it a large message (type and body of a frame) is whole.
    Message(Vec<u8>),
    /// It begins a message over a limit, of this call.
    Refused { seq: Seq, excess: Excess },
    /// The peer has answered a challenge.
    PathResponse(u64),
}

/// Why a frame ends the link.
#[derive(Debug)]
pub(crate) enum Bad {
    Frame(FrameError),
    Violation(Violation),
}

impl Channel {
    /// Notes a datagram of the peer. Whether it is new; nothing of one that is not may be handled.
    #[inline]
    pub(in crate::protocol::packet) fn accept(
        &mut self,
        now: Time,
        number: Truncated,
        bytes: usize,
    ) -> bool {
        let number = number.expand(self.received.largest());
        if !self.received.insert(number) && !cfg_canary!("datagrams_are_taken_twice") {
            self.statistics.duplicates += 1;
            // The peer may have missed the acknowledgement of the first copy.
            self.acks.now |= self.acks.owed > 0;
            return false;
        }
        if self.received.largest() == Some(number) {
            self.acks.largest_at = Some(now);
        }
        self.statistics.received += 1;
        self.statistics.bytes_received += bytes as u64;
        self.heard(now);
        true
    }

    /// Whether a frame (type and body) of an accepted datagram is none of the channel's own; it is then taken.
    #[inline]
    pub(in crate::protocol::packet) fn passes_on(&mut self, now: Time, frame: &[u8]) -> bool {
        let kind = frame.first().map_or(0, |first| first >> 3);
        let passes = OWN >> kind & 1 == 0;
        if passes {
            self.owe(now);
        }
        passes
    }

    /// Takes one frame (type and body) of an accepted datagram. `room` says whether a further large message may begin.
    #[inline]
    pub(in crate::protocol::packet) fn handle(
        &mut self,
        now: Time,
        frame: &[u8],
        delivery: &mut impl Delivery,
        room: bool,
    ) -> Result<Taken, Bad> {
        if self.passes_on(now, frame) {
            return Ok(Taken::Frame);
        }
        let frame = decode(frame).map_err(Bad::Frame)?;
        if let Frame::Ack(ack) = frame {
            return self.on_ack(now, &ack, delivery).map_err(Bad::Violation);
        }
        self.owe(now);
        match frame {
            Frame::Piece(piece) => match self.pieces.accept(now, &piece, room) {
                Gathered::Unfinished | Gathered::Repeat => Ok(Taken::Here),
                Gathered::Whole(message) => Ok(Taken::Message(message)),
                Gathered::Refused(_) if piece.seq == 0 => {
                    Err(Bad::Violation(Violation("a control message over the limit")))
                }
                Gathered::Refused(excess) => Ok(Taken::Refused { seq: piece.seq, excess }),
                Gathered::Violation(what) => Err(Bad::Violation(Violation(what))),
            },
            Frame::PieceAbort { message, .. } => {
                self.pieces.abort(message);
                Ok(Taken::Here)
            }
            Frame::PathChallenge(nonce) => {
                self.say(|control| put_nonce(Kind::PathResponse, nonce, control));
                Ok(Taken::Here)
            }
            Frame::PathResponse(nonce) => Ok(Taken::PathResponse(nonce)),
            // Who asks whether we live waits for the answer.
            Frame::Ping(_) => {
                self.acks.now = true;
                Ok(Taken::Here)
            }
            // An answer, and nothing that was not passed on.
            _ => Ok(Taken::Here),
        }
    }

    /// An acknowledgement is owed for the datagram that is being handled.
    #[inline]
    fn owe(&mut self, now: Time) {
        self.acks.pending = true;
        self.acks.due.get_or_insert(now + super::super::ACK_DELAY);
    }

    /// All frames of a datagram were handled.
    #[inline]
    pub(in crate::protocol::packet) fn datagram_handled(&mut self) {
        self.acks.owed += u32::from(std::mem::take(&mut self.acks.pending));
    }

    /// All datagrams of a batch were handled: decides whether an acknowledgement leaves alone.
    #[inline]
    pub(in crate::protocol::packet) fn after_input(&mut self) {
        if self.acks.owed >= ACK_EVERY || (self.acks.owed > 0 && self.received.has_gap()) {
            self.acks.now = true;
        }
    }

    fn heard(&mut self, now: Time) {
        if self.is_given_up() {
            // The peer is back: what was in flight when it went has long been lost.
            self.revive(now);
        }
    }

    fn on_ack(
        &mut self,
        now: Time,
        ack: &Ack,
        delivery: &mut impl Delivery,
    ) -> Result<Taken, Violation> {
        if ack.largest() >= self.sent.next() {
            return Err(Violation("an acknowledgement of what was not sent"));
        }
        if let Some(sent) = self.sent.awaited(ack.largest()) {
            let delay = std::time::Duration::from_micros(ack.delay_us);
            self.rtt.update(now.since(sent), delay, self.config.peer_ack_delay);
        }
        let mut news = false;
        for (start, end) in ack.ranges() {
            for number in self.sent.kept(start, end) {
                match self.sent.acknowledge(now, number, &self.rtt) {
                    Acked::New(sent) => {
                        news |= sent.stamp.is_some();
                        self.arrived(now, sent, delivery);
                    }
                    Acked::Never => {
                        return Err(Violation("an acknowledgement of a number left out"));
                    }
                    Acked::Late { bytes, stamp } => {
                        let in_flight = self.sent.in_flight();
                        if let Some(stamp) = stamp {
                            self.controller.on_acked(now, bytes, stamp, in_flight);
                        }
                    }
                    Acked::Old => {}
                }
            }
        }
        if news {
            self.probes = 0;
            self.credit = 0;
        }
        self.sent.acknowledged_up_to(ack.largest());
        self.find_lost(now);
        Ok(Taken::Here)
    }

    /// A datagram has arrived: what it carried need not be sent again.
    fn arrived(&mut self, now: Time, sent: Sent, delivery: &mut impl Delivery) {
        let Content { frames, acknowledged, pieces } = sent.content;
        if cfg_canary!("a_piece_that_arrives_finishes_its_call") {
            for piece in &pieces {
                let mut reply = Vec::new();
                put_reply(piece.head.seq, ReplyStatus::Ok, b"", &mut reply);
                delivery.delivered(&reply[1..]);
            }
        }
        let mut rest = &frames[..];
        while let Some((frame, length)) = first_frame(rest) {
            delivery.delivered(frame);
            rest = &rest[length..];
        }
        self.recycle(frames);
        if let Some(largest) = acknowledged {
            self.received.forget_below(largest + 1);
        }
        let Some(stamp) = sent.stamp else { return };
        if sent.bytes > FALLBACK_DATAGRAM {
            self.black_hole = BlackHole::default();
        } else {
            self.black_hole.small_passes = true;
        }
        let in_flight = self.sent.in_flight();
        self.controller.on_acked(now, sent.bytes, stamp, in_flight);
    }
}

/// Kinds of frames that the channel itself understands, a bit for each.
const OWN: u32 = 1 << Kind::Ack as u32
    | 1 << Kind::Piece as u32
    | 1 << Kind::PathChallenge as u32
    | 1 << Kind::PathResponse as u32
    | 1 << Kind::Ping as u32
    | 1 << Kind::Pong as u32;
/// Datagrams after which an acknowledgement does not wait for company (RFC 9000, section 13.2.2).
const ACK_EVERY: u32 = 2;
