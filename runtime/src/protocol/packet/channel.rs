//! One link's packet machine, the same on both sides: frames into datagrams, and out of them.
//!
//! A frame is sent again, in a new datagram, until a datagram with it is acknowledged or nobody wants it any more; a
//! frame that is sent once is not. What is to be sent waits in the [`SendBuffer`] of the machine above, so that it can
//! still be taken back. The receiving half is in `channel/incoming.rs`, losses and timers are in `channel/recovery.rs`.

mod incoming;
mod recovery;

use std::collections::VecDeque;
use std::time::Duration;

pub(super) use incoming::Bad;
pub(crate) use incoming::Taken;

use super::congestion::Controller;
use super::pieces::Pieces;
use super::received::Received;
use super::rtt::Rtt;
use super::sent::{Content, SentDatagrams};
use super::{FALLBACK_DATAGRAM, PacketStatistics};
use crate::id::Seq;
use crate::time::Time;
use crate::wire::datagram::{DATA_OVERHEAD, SUM, Truncated, begin_data, seal};
use crate::wire::frame::{MAX_ACK_RANGES, PieceHead, first_frame, put_ack, put_piece_abort};
use crate::wire::send_buffer::{PieceOut, SendBuffer};

/// What the machine above says of frames that it wrote, and is told of them.
pub(crate) trait Delivery {
    /// The peer has this frame (type and body).
    fn delivered(&mut self, frame: &[u8]);
    /// Whether a frame that may be lost is of use any more.
    fn is_wanted(&self, frame: &[u8]) -> bool;
    /// Whether the rest of a large message is of use: that of this call, or 0 for one that belongs to none.
    fn is_message_wanted(&self, seq: Seq) -> bool;
}

/// What a channel has to know.
#[derive(Debug, Clone)]
pub(super) struct ChannelConfig {
    /// What the header of its datagrams carries.
    pub(super) id: u64,
    /// Largest datagram that both sides accept, in bytes.
    pub(super) datagram: usize,
    /// How long the peer may wait before it acknowledges.
    pub(super) peer_ack_delay: Duration,
    /// How long a round trip takes, as far as the handshake showed.
    pub(super) rtt: Rtt,
    /// Longest wait before something is sent again.
    pub(super) most_patience: Duration,
    /// After so many of them without a word nothing more is sent; never if none.
    pub(super) most_probes: Option<u32>,
    /// How long a large message may stand still.
    pub(super) progress_timeout: Duration,
    /// Decides which numbers are left out, so that nobody can acknowledge what was not received.
    pub(super) seed: u64,
    /// For comparison only: after a loss everything that was sent later is sent again as well.
    pub(super) go_back: bool,
}

/// One end of a link.
pub(super) struct Channel {
    config: ChannelConfig,
    /// Largest datagram that is sent now, in bytes; smaller than at first where large ones vanish.
    datagram: usize,
    sent: SentDatagrams,
    received: Received,
    rtt: Rtt,
    controller: Controller,
    pieces: Pieces,
    /// Frames of the channel itself, with lengths: asked for, answered, or a probe.
    control: Vec<u8>,
    /// Frames to be sent again, with lengths, and how many bytes of them were.
    again: Vec<u8>,
    again_taken: usize,
    pieces_again: VecDeque<PieceOut>,
    /// Vectors to be used again.
    spare: Vec<Vec<u8>>,
    acks: Acks,
    /// Expiries of the retransmission timer since the peer acknowledged something.
    probes: u32,
    /// Datagrams that may leave although the window is full, to make the peer speak.
    credit: u32,
    /// The next datagram is to pass where large ones vanish.
    small_next: bool,
    black_hole: BlackHole,
    /// When pacing allows the next datagram.
    paced_until: Time,
    statistics: PacketStatistics,
}

/// What is owed to the peer.
#[derive(Default)]
struct Acks {
    /// Datagrams that ask for an acknowledgement and have none, and whether the one being handled does.
    owed: u32,
    pending: bool,
    due: Option<Time>,
    /// When the largest of them came.
    largest_at: Option<Time>,
    /// One leaves even if nothing else does.
    now: bool,
}

/// The suspicion that large datagrams do not pass (RFC 8899 calls it a black hole).
#[derive(Default)]
struct BlackHole {
    rounds: u32,
    last: Option<Time>,
    /// A small one was acknowledged since the suspicion began.
    small_passes: bool,
}

impl Channel {
    pub(super) fn new(now: Time, config: ChannelConfig, pieces: Pieces) -> Channel {
        Channel {
            datagram: config.datagram,
            sent: SentDatagrams::new(),
            received: Received::default(),
            rtt: config.rtt.clone(),
            controller: Controller::new(now, config.datagram, config.rtt.smoothed()),
            pieces,
            control: Vec::new(),
            again: Vec::new(),
            again_taken: 0,
            pieces_again: VecDeque::new(),
            spare: Vec::new(),
            acks: Acks::default(),
            probes: 0,
            credit: 0,
            small_next: false,
            black_hole: BlackHole::default(),
            paced_until: Time::NEVER,
            statistics: PacketStatistics::default(),
            config,
        }
    }

    /// Room for frames in a datagram, in bytes.
    pub(super) fn room(&self) -> usize {
        self.datagram - DATA_OVERHEAD
    }

    /// Appends the next datagram to `into`, if one may leave now.
    pub(super) fn transmit(
        &mut self,
        now: Time,
        out: &mut SendBuffer,
        delivery: &impl Delivery,
        into: &mut Vec<u8>,
    ) -> bool {
        // What waited for it may have been taken back since.
        self.paced_until = Time::NEVER;
        if self.datagram < self.config.datagram {
            out.set_room(self.room());
        }
        let ack_alone = self.acks.now || self.acks.due.is_some_and(|due| due <= now);
        let content = self.has_content(out) && self.may_send(now);
        if !content && !ack_alone {
            return false;
        }
        self.leave_numbers_out(now);
        let (start, number) = (into.len(), self.sent.next());
        begin_data(self.config.id, Truncated::of(number), into);
        let head = into.len();
        let size = if self.small_next { FALLBACK_DATAGRAM } else { self.datagram };
        let limit = start + size - SUM;
        let mut carried =
            Content { frames: self.spare.pop().unwrap_or_default(), ..Content::default() };
        if self.acks.owed > 0 || ack_alone {
            carried.acknowledged = self.put_ack(now, into);
        }
        let acks_end = into.len();
        let resent = content && self.put_content(out, delivery, limit, &mut carried, into);
        let eliciting = into.len() > acks_end;
        if into.len() == head {
            into.truncate(start);
            self.recycle(carried.frames);
            return false;
        }
        seal(start, into);
        let bytes = into.len() - start;
        self.acks.clear();
        self.note_sent(now, bytes, carried, eliciting, out);
        self.statistics.sent += 1;
        self.statistics.bytes_sent += bytes as u64;
        self.statistics.resent += u64::from(resent);
        true
    }

    /// Appends a datagram with one frame and nothing else, for an address that is being tried.
    pub(super) fn transmit_alone(
        &mut self,
        now: Time,
        into: &mut Vec<u8>,
        put: impl FnOnce(&mut Vec<u8>),
    ) {
        let (start, number) = (into.len(), self.sent.next());
        begin_data(self.config.id, Truncated::of(number), into);
        put(into);
        seal(start, into);
        let bytes = into.len() - start;
        // It tells nothing about the path that the other datagrams take.
        self.sent.push(now, bytes, None, Content::default());
        self.statistics.sent += 1;
        self.statistics.bytes_sent += bytes as u64;
    }

    fn note_sent(
        &mut self,
        now: Time,
        bytes: usize,
        carried: Content,
        eliciting: bool,
        out: &SendBuffer,
    ) {
        if !eliciting {
            self.sent.push(now, bytes, None, carried);
            self.sent.forget(now, &self.rtt);
            return;
        }
        self.credit = self.credit.saturating_sub(1);
        self.small_next = false;
        let limited = !self.has_content(out);
        let in_flight = self.sent.in_flight();
        let stamp = self.controller.on_sent(now, bytes, in_flight, limited);
        self.sent.push(now, bytes, Some(stamp), carried);
    }

    /// Whether anything but an acknowledgement waits.
    fn has_content(&self, out: &SendBuffer) -> bool {
        !self.control.is_empty() || self.has_again() || !out.is_empty()
    }

    fn has_again(&self) -> bool {
        self.again_taken < self.again.len() || !self.pieces_again.is_empty()
    }

    /// Whether window, pacing and the peer's silence allow a datagram; when pacing does not, until when.
    fn may_send(&mut self, now: Time) -> bool {
        if self.credit > 0 {
            return true;
        }
        let (window, in_flight) = (self.controller.window(), self.sent.in_flight());
        if self.is_given_up() || self.sent.is_full() || in_flight + self.datagram > window {
            return false;
        }
        let ready = self.controller.ready_at(now, self.datagram, in_flight);
        if ready > now {
            self.paced_until = ready;
        }
        ready <= now
    }

    /// Numbers that are left out now and then: who acknowledges them lies, and would make us send too fast.
    fn leave_numbers_out(&mut self, now: Time) {
        let number = self.sent.next();
        // A multiplication spreads the seed over the numbers (Knuth's multiplicative hashing).
        let mixed = (number ^ self.config.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if mixed >> (64 - SKIPPED_BITS) == 0 {
            self.sent.skip(now);
        }
    }

    fn put_ack(&mut self, now: Time, into: &mut Vec<u8>) -> Option<u64> {
        let largest = self.received.largest()?;
        let delay = self.acks.largest_at.map_or(Duration::ZERO, |at| now.since(at));
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let mut all = self.received.ranges(MAX_ACK_RANGES);
        let (first, second) = (all.next()?, all.next());
        let Some(second) = second else {
            // As long as nothing is lost.
            put_ack(delay_us, &[first], into);
            return Some(largest);
        };
        let mut ranges = [(0, 0); MAX_ACK_RANGES];
        let mut count = 0;
        for (slot, range) in ranges.iter_mut().zip([first, second].into_iter().chain(all)) {
            *slot = range;
            count += 1;
        }
        put_ack(delay_us, &ranges[..count], into);
        Some(largest)
    }

    /// Fills a datagram up to `limit`: first what the channel itself says, then what was lost, then what is new.
    /// Whether something of it was sent before.
    fn put_content(
        &mut self,
        out: &mut SendBuffer,
        delivery: &impl Delivery,
        limit: usize,
        carried: &mut Content,
        into: &mut Vec<u8>,
    ) -> bool {
        while let Some((_, length)) = first_frame(&self.control) {
            if into.len() + length > limit {
                break;
            }
            into.extend(self.control.drain(..length));
        }
        let before = into.len();
        self.put_again(out, delivery, limit, carried, into);
        self.put_pieces_again(delivery, limit, carried, into);
        let resent = into.len() > before;
        while let Some((frames, once)) = out.next_frames(limit.saturating_sub(into.len())) {
            into.extend_from_slice(frames);
            if !once || cfg_canary!("maybe_is_sent_again") {
                carried.frames.extend_from_slice(frames);
            }
        }
        while let Some(piece) = out.next_piece(limit.saturating_sub(into.len())) {
            piece.put(into);
            if !piece.head.once {
                carried.pieces.push(piece);
            }
        }
        resent
    }

    fn put_again(
        &mut self,
        out: &mut SendBuffer,
        delivery: &impl Delivery,
        limit: usize,
        carried: &mut Content,
        into: &mut Vec<u8>,
    ) {
        let room = self.room();
        while let Some((body, length)) = first_frame(&self.again[self.again_taken..]) {
            if delivery.is_wanted(body) {
                if length > room {
                    // Datagrams have become smaller than this frame.
                    out.push_again(body);
                } else if into.len() + length > limit {
                    return;
                } else {
                    let frame = &self.again[self.again_taken..self.again_taken + length];
                    into.extend_from_slice(frame);
                    carried.frames.extend_from_slice(frame);
                }
            }
            self.again_taken += length;
        }
        self.again.clear();
        self.again_taken = 0;
    }

    fn put_pieces_again(
        &mut self,
        delivery: &impl Delivery,
        limit: usize,
        carried: &mut Content,
        into: &mut Vec<u8>,
    ) {
        while let Some(piece) = self.pieces_again.front_mut() {
            let PieceHead { message, seq, .. } = piece.head;
            if !delivery.is_message_wanted(seq) {
                // The peer may have the others, and would take the link for stalled in the end.
                let start = into.len();
                put_piece_abort(message, seq, into);
                if into.len() > limit {
                    into.truncate(start);
                    return;
                }
                carried.frames.extend_from_slice(&into[start..]);
                self.pieces_again.retain(|piece| piece.head.message != message);
                continue;
            }
            let Some(part) = piece.split(limit.saturating_sub(into.len())) else { return };
            part.put(into);
            carried.pieces.push(part);
            if !piece.bytes.is_empty() {
                return;
            }
            self.pieces_again.pop_front();
        }
    }

    fn recycle(&mut self, mut frames: Vec<u8>) {
        if self.spare.len() < SPARE && frames.capacity() > 0 {
            frames.clear();
            self.spare.push(frames);
        }
    }

    /// Whether something that was sent is not acknowledged.
    pub(super) fn awaits(&self) -> bool {
        self.sent.awaits() || self.has_again()
    }

    /// Adds a frame of the channel itself, sent once.
    pub(super) fn say(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.control.len() < MOST_CONTROL {
            put(&mut self.control);
        }
    }

    /// Bytes of partly received messages.
    pub(super) fn assembling(&self) -> usize {
        self.pieces.bytes()
    }

    /// A round trip takes no longer than this, as far as anybody knows yet.
    pub(super) fn guess_rtt(&mut self, most: Duration) {
        self.rtt = Rtt::guessed(most.min(LONGEST_GUESS));
    }

    pub(super) fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    pub(super) fn statistics(&self) -> PacketStatistics {
        self.statistics
    }
}

impl Acks {
    fn clear(&mut self) {
        *self = Acks::default();
    }
}

/// One number of 2 to the power of this is left out.
const SKIPPED_BITS: u32 = 9;
/// Longest round trip that is believed without a sample.
const LONGEST_GUESS: Duration = Duration::from_millis(333);
/// Vectors that are kept for the next datagrams.
const SPARE: usize = 64;
/// Bytes of the channel's own frames that wait: more are not said, since who asks so often asks again.
const MOST_CONTROL: usize = 512;
