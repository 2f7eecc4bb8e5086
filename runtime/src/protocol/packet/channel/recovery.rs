//! What time does to a channel: acknowledgements that are due, losses, probes, a peer that is gone.
//!
//! The retransmission timer is the probe timeout of RFC 9002, section 6.2: when nothing is acknowledged for so long,
//! the oldest of what is in flight is sent once more, and the wait doubles.

use std::time::Duration;

use super::{BlackHole, Channel, Content};
use crate::protocol::packet::FALLBACK_DATAGRAM;
use crate::protocol::packet::sent::Sent;
use crate::time::Time;
use crate::wire::frame::{Kind, put_nonce};

impl Channel {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    #[inline]
    pub(in crate::protocol::packet) fn next_timeout(&self) -> Time {
        let ack = self.acks.due.unwrap_or(Time::NEVER);
        let progress = self.pieces.next_expiry(self.config.progress_timeout);
        ack.min(self.sent.loss_time()).min(self.probe_time()).min(self.paced_until).min(progress)
    }

    /// Does what is due; [`transmit`](Self::transmit) comes after it. Whether the link may go on: not if a large message
    /// stands still, of which pieces were acknowledged that nobody would send again.
    pub(in crate::protocol::packet) fn handle_timeout(&mut self, now: Time) -> bool {
        if self.sent.loss_time() <= now {
            self.find_lost(now);
        }
        if self.probe_time() <= now {
            self.probe(now);
        }
        !self.pieces.expire(now, self.config.progress_timeout)
    }

    /// When the oldest of what is in flight is sent once more.
    fn probe_time(&self) -> Time {
        if !self.sent.awaits() || self.is_given_up() {
            return Time::NEVER;
        }
        let patience = self.patience();
        // What is sent meanwhile postpones it, but only so far: what a peer is asked now and then would do so for ever.
        (self.sent.last_eliciting() + patience)
            .min(self.sent.silent_since() + patience.saturating_mul(2))
    }

    /// The probe timeout after so many probes without an answer.
    fn patience(&self) -> Duration {
        let first = self.rtt.pto(self.config.peer_ack_delay);
        first.saturating_mul(1 << self.probes.min(16)).min(self.config.most_patience)
    }

    /// Whether the peer has been silent for so long that nothing more is sent to it.
    pub(super) fn is_given_up(&self) -> bool {
        self.config.most_probes.is_some_and(|most| self.probes >= most)
    }

    fn probe(&mut self, now: Time) {
        self.probes += 1;
        self.sent.probed(now);
        if self.probes >= PERSISTENT {
            self.controller.on_persistent_congestion();
            self.rtt.restart_min();
        }
        if self.is_given_up() {
            return;
        }
        let (mut content, mut large) = (false, false);
        let Channel { sent, again, pieces_again, .. } = self;
        for sent in sent.oldest().take(PROBES) {
            large |= sent.bytes > FALLBACK_DATAGRAM;
            content |= !sent.content.frames.is_empty() || !sent.content.pieces.is_empty();
            take_back(sent, again, pieces_again);
        }
        if large {
            self.suspect(now);
        }
        if content || self.has_again() {
            self.credit = PROBES as u32;
        }
        if large || !content {
            // Small, so that it passes where large ones vanish; also when all that is in flight is sent only once.
            self.credit += 1;
            self.small_next = !cfg_canary!("probes_are_filled_up");
            self.say(|control| put_nonce(Kind::Ping, now.as_nanos(), control));
        }
    }

    /// One datagram may leave, however silent the peer is.
    pub(in crate::protocol::packet) fn speak_up(&mut self) {
        self.credit = self.credit.max(1);
    }

    /// What is lost by now is to be sent again.
    pub(super) fn find_lost(&mut self, now: Time) {
        let mut lost = Lost::default();
        let Channel { sent, rtt, again, pieces_again, .. } = self;
        sent.lost(now, rtt, |number, sent| {
            lost.count(number, sent);
            take_back(sent, again, pieces_again);
        });
        if self.config.go_back
            && let Some(first) = lost.first
        {
            let Channel { sent, again, pieces_again, .. } = self;
            sent.give_up_from(first, now, |_, sent| take_back(sent, again, pieces_again));
        }
        if lost.datagrams > 0 {
            self.statistics.lost += lost.datagrams;
            self.controller.on_lost(now, lost.bytes, self.sent.in_flight());
            if lost.large {
                self.suspect(now);
            }
        }
        self.sent.forget(now, &self.rtt);
    }

    /// The peer speaks again after it was given up.
    pub(super) fn revive(&mut self, now: Time) {
        self.probes = 0;
        let Channel { sent, again, pieces_again, .. } = self;
        sent.give_up_from(0, now, |_, sent| take_back(sent, again, pieces_again));
    }

    /// Large datagrams were lost: perhaps they do not pass at all. After three rounds in which only small ones came
    /// through, only small ones are sent.
    fn suspect(&mut self, now: Time) {
        let BlackHole { rounds, last, small_passes } = &mut self.black_hole;
        let pause = self.rtt.smoothed();
        if last.is_some_and(|last| last + pause > now) {
            return;
        }
        *last = Some(now);
        *small_passes &= *rounds > 0;
        *rounds += 1;
        let falls_back = *rounds >= ROUNDS && *small_passes && self.datagram > FALLBACK_DATAGRAM;
        if falls_back && !cfg_canary!("datagrams_stay_large") {
            self.datagram = FALLBACK_DATAGRAM;
            self.black_hole = BlackHole::default();
        }
    }
}

/// What one look for losses found.
#[derive(Default)]
struct Lost {
    datagrams: u64,
    bytes: usize,
    large: bool,
    first: Option<u64>,
}

impl Lost {
    fn count(&mut self, number: u64, sent: &Sent) {
        self.datagrams += 1;
        self.bytes += sent.bytes;
        self.large |= sent.bytes > FALLBACK_DATAGRAM;
        self.first.get_or_insert(number);
    }
}

/// What a lost datagram carried waits for the next one.
fn take_back(
    sent: &mut Sent,
    again: &mut Vec<u8>,
    pieces_again: &mut std::collections::VecDeque<crate::wire::send_buffer::PieceOut>,
) {
    let Content { frames, pieces, .. } = std::mem::take(&mut sent.content);
    if cfg_canary!("what_is_lost_stays_lost") {
        return;
    }
    again.extend_from_slice(&frames);
    pieces_again.extend(pieces);
}

/// Datagrams that are sent again at a probe.
const PROBES: usize = 2;
/// Probes without an answer that mean more than a few losses (RFC 9002, section 7.6).
const PERSISTENT: u32 = 3;
/// Rounds of lost large datagrams that make a black hole.
const ROUNDS: u32 = 3;
