//! The datagrams of a link that the peer has not acknowledged, and which of them are lost.
//!
//! Loss by number and by time as in RFC 9002, section 6.1, with thresholds that learn where the network reorders.

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::Stamp;
use super::reordering::Reordering;
use super::rtt::Rtt;
use crate::time::Time;
use crate::wire::send_buffer::PieceOut;

/// Datagrams by number; those at the front are forgotten as soon as nothing can come of them.
pub(super) struct SentDatagrams {
    first: u64,
    datagrams: VecDeque<Sent>,
    /// Below this number nothing is in flight.
    settled: u64,
    /// Bytes and number of those that are neither acknowledged nor lost.
    in_flight: usize,
    eliciting: usize,
    largest_acked: Option<u64>,
    /// When the last datagram left that asks for an acknowledgement.
    last_eliciting: Time,
    /// Since when one of these is in flight and none was acknowledged, nor anything done about that.
    silent_since: Time,
    /// When the next one counts as lost.
    loss_time: Time,
    reordering: Reordering,
}

/// One datagram.
pub(super) struct Sent {
    pub(super) time: Time,
    pub(super) bytes: usize,
    /// Nothing if it asks for no acknowledgement.
    pub(super) stamp: Option<Stamp>,
    pub(super) content: Content,
    state: State,
}

/// What a datagram carried that may have to be sent again, and what it told.
#[derive(Default)]
pub(super) struct Content {
    /// Whole frames, with their lengths.
    pub(super) frames: Vec<u8>,
    pub(super) pieces: Vec<PieceOut>,
    /// The largest number that it acknowledged.
    pub(super) acknowledged: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    /// Asks for no acknowledgement.
    Silent,
    Acked,
    Lost(Time),
    /// Never sent: who acknowledges it acknowledges what it has not got.
    Skipped,
}

/// What an acknowledgement of a number means.
pub(super) enum Acked {
    /// The datagram has arrived.
    New(Sent),
    /// It had been given up.
    Late { bytes: usize, stamp: Option<Stamp> },
    /// Known before, or nothing that matters.
    Old,
    /// It was never sent.
    Never,
}

impl SentDatagrams {
    pub(super) fn new() -> SentDatagrams {
        SentDatagrams {
            first: 0,
            settled: 0,
            datagrams: VecDeque::new(),
            in_flight: 0,
            eliciting: 0,
            largest_acked: None,
            last_eliciting: Time::ZERO,
            silent_since: Time::ZERO,
            loss_time: Time::NEVER,
            reordering: Reordering::default(),
        }
    }

    /// The number of the next datagram.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.first + self.datagrams.len() as u64
    }

    /// Leaves a number out.
    pub(super) fn skip(&mut self, now: Time) {
        let (stamp, content) = (None, Content::default());
        let state = State::Skipped;
        self.datagrams.push_back(Sent { time: now, bytes: 0, stamp, content, state });
    }

    /// Bytes that are neither acknowledged nor lost.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a datagram waits for its acknowledgement.
    #[inline]
    pub(super) fn awaits(&self) -> bool {
        self.eliciting > 0
    }

    /// Whether no further datagram may be kept.
    pub(super) fn is_full(&self) -> bool {
        self.datagrams.len() >= MOST_KEPT
    }

    #[inline]
    pub(super) fn last_eliciting(&self) -> Time {
        self.last_eliciting
    }

    #[inline]
    pub(super) fn silent_since(&self) -> Time {
        self.silent_since
    }

    /// Something is done about the silence.
    pub(super) fn probed(&mut self, now: Time) {
        self.silent_since = now;
    }

    /// When [`lost`](Self::lost) finds something.
    #[inline]
    pub(super) fn loss_time(&self) -> Time {
        self.loss_time
    }

    /// Notes the next datagram. One without a stamp asks for no acknowledgement and is not in flight.
    #[inline]
    pub(super) fn push(
        &mut self,
        time: Time,
        bytes: usize,
        stamp: Option<Stamp>,
        content: Content,
    ) {
        let state = if stamp.is_some() { State::InFlight } else { State::Silent };
        if stamp.is_some() {
            if self.eliciting == 0 {
                self.silent_since = time;
            }
            self.in_flight += bytes;
            self.eliciting += 1;
            self.last_eliciting = time;
        }
        self.datagrams.push_back(Sent { time, bytes, stamp, content, state });
    }

    /// When this datagram was sent, if its acknowledgement is awaited.
    #[inline]
    pub(super) fn awaited(&self, number: u64) -> Option<Time> {
        let index = number.checked_sub(self.first)?;
        let sent = self.datagrams.get(index as usize)?;
        (sent.state == State::InFlight).then_some(sent.time)
    }

    /// The peer has this number.
    #[inline]
    pub(super) fn acknowledge(&mut self, now: Time, number: u64, rtt: &Rtt) -> Acked {
        let Some(index) = number.checked_sub(self.first) else { return Acked::Old };
        let Some(sent) = self.datagrams.get_mut(index as usize) else { return Acked::Never };
        let (stamp, time, bytes) = (sent.stamp, sent.time, sent.bytes);
        let state = std::mem::replace(&mut sent.state, State::Acked);
        match state {
            State::InFlight => {
                self.in_flight -= bytes;
                self.eliciting -= 1;
                self.silent_since = now;
            }
            State::Silent => {}
            State::Acked => return Acked::Old,
            State::Skipped => return Acked::Never,
            State::Lost(_) => {
                let overtaken =
                    self.largest_acked.map_or(0, |largest| largest.saturating_sub(number));
                self.reordering.on_spurious(overtaken, now.since(time), rtt);
                return Acked::Late { bytes, stamp };
            }
        }
        let content = std::mem::take(&mut sent.content);
        Acked::New(Sent { time, bytes, stamp, content, state: State::Acked })
    }

    /// The largest number of an acknowledgement, once all of its numbers were told.
    #[inline]
    pub(super) fn acknowledged_up_to(&mut self, largest: u64) {
        if self.largest_acked.is_none_or(|before| before < largest) {
            self.largest_acked = Some(largest);
        }
    }

    /// Numbers that are kept, within these bounds.
    #[inline]
    pub(super) fn kept(&self, start: u64, end: u64) -> std::ops::Range<u64> {
        start.max(self.first)..end
    }

    /// Hands out what is lost now: the oldest first, with its bytes and what it carried.
    pub(super) fn lost(&mut self, now: Time, rtt: &Rtt, mut give: impl FnMut(u64, &mut Sent)) {
        self.loss_time = Time::NEVER;
        let Some(largest) = self.largest_acked else { return };
        let patience = self.reordering.delay(rtt);
        let before = (largest + 1).saturating_sub(self.first).min(self.datagrams.len() as u64);
        let settled = &mut self.settled;
        *settled = (*settled).max(self.first);
        while self
            .datagrams
            .get((*settled - self.first) as usize)
            .is_some_and(|sent| sent.state != State::InFlight)
        {
            *settled += 1;
        }
        for index in *settled - self.first..before {
            let sent = &mut self.datagrams[index as usize];
            if sent.state != State::InFlight {
                continue;
            }
            let number = self.first + index;
            if sent.time + patience <= now || largest - number >= self.reordering.numbers() {
                sent.state = State::Lost(now);
                self.in_flight -= sent.bytes;
                self.eliciting -= 1;
                give(number, sent);
            } else {
                self.loss_time = self.loss_time.min(sent.time + patience);
            }
        }
    }

    /// Hands out everything that is in flight from this number on, as lost.
    pub(super) fn give_up_from(
        &mut self,
        number: u64,
        now: Time,
        mut give: impl FnMut(u64, &mut Sent),
    ) {
        let from = number.saturating_sub(self.first) as usize;
        for (index, sent) in self.datagrams.iter_mut().enumerate().skip(from) {
            if sent.state == State::InFlight {
                sent.state = State::Lost(now);
                self.in_flight -= sent.bytes;
                self.eliciting -= 1;
                give(self.first + index as u64, sent);
            }
        }
    }

    /// What the oldest datagrams in flight carried, for sending it again while they stay in flight.
    pub(super) fn oldest(&mut self) -> impl Iterator<Item = &mut Sent> {
        self.datagrams.iter_mut().filter(|sent| sent.state == State::InFlight)
    }

    /// Forgets the oldest of which nothing more is expected. What was given up is remembered for a while, so that its
    /// late acknowledgement is understood.
    #[inline]
    pub(super) fn forget(&mut self, now: Time, rtt: &Rtt) {
        let memory = rtt.smoothed() * 4 + MEMORY;
        while let Some(oldest) = self.datagrams.front() {
            let over = match oldest.state {
                State::InFlight => false,
                State::Acked | State::Silent => true,
                State::Skipped => oldest.time + memory <= now,
                State::Lost(at) => at + memory <= now,
            };
            if !over {
                return;
            }
            self.datagrams.pop_front();
            self.first += 1;
        }
    }
}

/// What was given up is remembered for this long at least, and for some round trips.
const MEMORY: Duration = Duration::from_millis(20);
/// Datagrams that are kept; no more leave until some are acknowledged or given up.
const MOST_KEPT: usize = 1 << 16;
