//! How much may be in flight and how fast it leaves: BBR version 1, as in
//! draft-cardwell-iccrg-bbr-congestion-control-00, and a pacer.
//!
//! BBR models the path by the highest delivery rate and the shortest round trip of late, so lost
//! datagrams alone do not slow it. Where this departs from the draft:
//! - losses limit the window only if an eighth of a round's datagrams are lost, in startup as
//!   later: fewer say nothing about the queue;
//! - a round that lasts a multiple of the shortest one ages the highest rate faster, so that a path
//!   that became slow is believed within seconds, although its rounds became long;
//! - the shortest round trip is also confirmed by each datagram that found the path nearly empty;
//!   a flow of requests and replies is hence never held up to measure it. To measure, half of what
//!   the path holds stays in flight, as in version 2, not only four datagrams;
//! - nothing is drawn at random: the first phase of the gain cycle follows from what was delivered.
//!
//! Arithmetic only, on integers, without allocation: the channel calls it for each datagram. Which
//! datagram is lost is not decided here.

mod delivery;
mod highest;
mod pacer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::time::Time;

pub(crate) use self::delivery::Stamp;
use self::delivery::{Delivery, Sample};
use self::highest::Highest;
use self::pacer::Pacer;

/// The window in bytes is never larger.
pub(crate) const MAX_WINDOW: u64 = 64 * 1024 * 1024;

/// The window in datagrams is never smaller.
pub(crate) const MIN_WINDOW: u64 = 4;

/// Bytes per second beyond which nothing is measured or paced; keeps all products in 64 bits.
const MAX_RATE: u64 = 8_000_000_000;

/// The first window of RFC 9002, section 7.2: so many datagrams, at most so many bytes.
const INITIAL_DATAGRAMS: u64 = 10;
const INITIAL_BYTES: u64 = 14_720;

/// Gains are in parts of this.
const UNIT: u64 = 256;

/// 2 / ln 2: the smallest that doubles the rate each round.
const STARTUP_GAIN: u64 = UNIT * 2885 / 1000;
const DRAIN_GAIN: u64 = UNIT * 1000 / 2885;
/// Room for acknowledgements that come late and in bunches.
const WINDOW_GAIN: u64 = UNIT * 2;
/// One phase a round trip: ask for more, give back what queued, cruise.
const CYCLE: [u64; 8] = [UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT];
const FIRST_CRUISE: u64 = 2;

/// Of the rate that is believed, so much is used: a queue that formed goes away.
const PACING_PERCENT: u64 = 99;

/// The highest rate is that of so many rounds.
const RATE_ROUNDS: u64 = 10;
/// A round counts as at most so many.
const MAX_ROUND_WEIGHT: u64 = 4;
/// Rounds shorter than this are never long: timers and delayed acknowledgements are part of them.
const LONG_ROUND: Duration = Duration::from_millis(40);

/// The path is full after so many rounds in which the rate did not grow by a quarter.
const FULL_ROUNDS: u8 = 3;

/// Lost datagrams limit the window if they are one of so many, and this many at least.
const LOSS_SHARE: u64 = 8;
const LOSS_DATAGRAMS: u64 = 3;

/// The shortest round trip holds so long unless it is seen again.
const SHORTEST_HOLDS: Duration = Duration::from_secs(10);
/// Where so little is in flight that none of it waits for the rest, every round trip shows the path, and the shortest
/// holds only so long: else a path that has become longer would be taken for one that carries next to nothing.
const QUIET_HOLDS: Duration = Duration::from_secs(1);
const QUIET_DATAGRAMS: u64 = 8;
/// How long few datagrams are in flight to see it again.
const PROBE_RTT: Duration = Duration::from_millis(200);

/// The controller of one path.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    datagram: u64,
    mode: Mode,
    window: u64,
    /// Bytes per second, gain included.
    rate: u64,
    delivery: Delivery,
    pacer: Pacer,
    highest: Highest,
    shortest: Shortest,
    round: Round,
    growth: Growth,
    cycle: Cycle,
    recovery: Option<Recovery>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Doubles the rate until it no longer grows.
    Startup,
    /// Gives back the queue that startup made.
    Drain,
    /// Follows [`CYCLE`] about the rate.
    ProbeRate,
    /// Sends little, to see the path without a queue.
    ProbeRtt(ProbeRtt),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ProbeRtt {
    /// Of the samples since it began.
    shortest: Duration,
    window_before: u64,
    /// Known once little is in flight: when it may end, and that a datagram sent after that
    /// must be acknowledged.
    end: Option<(Time, u64)>,
}

/// The shortest round trip.
#[derive(Clone, Copy, Debug)]
struct Shortest {
    /// None before the first sample.
    rtt: Option<Duration>,
    seen_at: Time,
}

/// A round ends when what was sent in it is acknowledged.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Counts rounds, long ones as several.
    age: u64,
    /// It ends with a datagram that was sent when so much was delivered.
    ends_at: u64,
    lost: u64,
}

/// Whether the path is full.
#[derive(Clone, Copy, Debug)]
struct Growth {
    rate: u64,
    rounds: u8,
}

#[derive(Clone, Copy, Debug)]
struct Cycle {
    phase: usize,
    since: Time,
    lost: bool,
}

/// For one round only as much is sent as is delivered.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    since: Time,
    window_before: u64,
}

impl Controller {
    /// `datagram` is the largest that will be sent, in bytes; `initial_rtt` may be a guess.
    pub(crate) fn new(now: Time, datagram: usize, initial_rtt: Duration) -> Controller {
        let datagram = datagram.max(1) as u64;
        let window = (INITIAL_DATAGRAMS * datagram).min(INITIAL_BYTES);
        let window = window.max(MIN_WINDOW * datagram).min(MAX_WINDOW);
        Controller {
            datagram,
            mode: Mode::Startup,
            window,
            rate: scaled(rate_of(window, initial_rtt), STARTUP_GAIN),
            delivery: Delivery::new(now),
            pacer: Pacer::new(datagram),
            highest: Highest::new(RATE_ROUNDS),
            shortest: Shortest { rtt: None, seen_at: now },
            round: Round { age: 0, ends_at: 0, lost: 0 },
            growth: Growth { rate: 0, rounds: 0 },
            cycle: Cycle { phase: 0, since: now, lost: false },
            recovery: None,
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub(crate) fn window(&self) -> usize {
        self.window as usize
    }

    /// Bytes per second.
    #[cfg(test)]
    pub(crate) fn pacing_rate(&self) -> u64 {
        self.rate
    }

    /// When a datagram of so many bytes may leave; `now`, if at once. Knows only of the pace, not
    /// of the window. `in_flight` is without it.
    #[inline]
    pub(crate) fn ready_at(&self, now: Time, bytes: usize, in_flight: usize) -> Time {
        // Little in flight is not worth a timer; more than a burst at once is none of it.
        let unpaced = (self.window / 2).min(self.pacer.burst(self.rate));
        if in_flight as u64 + bytes as u64 <= unpaced {
            return now;
        }
        self.pacer.ready_at(now, bytes as u64, self.rate)
    }

    /// A datagram that will be acknowledged leaves. `in_flight` is without it; `app_limited` says
    /// that nothing more waits to be sent. What it returns is to be kept with the datagram.
    #[inline]
    pub(crate) fn on_sent(
        &mut self,
        now: Time,
        bytes: usize,
        in_flight: usize,
        app_limited: bool,
    ) -> Stamp {
        let (bytes, in_flight) = (bytes as u64, in_flight as u64);
        if in_flight == 0 {
            self.restart(now);
        }
        self.pacer.sent(now, bytes, self.rate);
        let limited = app_limited && in_flight + bytes < self.window;
        let quiet = in_flight < QUIET_DATAGRAMS * self.datagram;
        self.delivery.sent(now, bytes, in_flight, limited, quiet)
    }

    /// A datagram was acknowledged for the first time, also one that was taken for lost before.
    /// `in_flight` is without it.
    pub(crate) fn on_acked(&mut self, now: Time, bytes: usize, stamp: Stamp, in_flight: usize) {
        let (bytes, in_flight) = (bytes as u64, in_flight as u64);
        let sample = self.delivery.acked(now, bytes, &stamp);
        let starts_round = stamp.delivered() >= self.round.ends_at;
        if starts_round {
            self.start_round(sample.rtt);
        }
        if sample.rate >= self.highest.get() || !stamp.is_limited() {
            self.highest.update(self.round.age, sample.rate);
        }
        if starts_round && !stamp.is_limited() && !self.is_full() {
            self.check_full();
        }
        self.advance_cycle(now, bytes, in_flight);
        self.leave_startup_and_drain(now, in_flight);
        self.see_rtt(now, &stamp, sample);
        self.probe_rtt(now, &stamp, sample, in_flight);
        self.set_rate();
        self.set_window(bytes, &stamp, in_flight);
    }

    /// A datagram is lost. `in_flight` is without it.
    pub(crate) fn on_lost(&mut self, now: Time, bytes: usize, in_flight: usize) {
        let (bytes, in_flight) = (bytes as u64, in_flight as u64);
        self.cycle.lost = true;
        self.round.lost += bytes;
        match self.recovery {
            Some(_) => self.window = self.window.saturating_sub(bytes),
            None => {
                let many = self.round.lost >= LOSS_DATAGRAMS * self.datagram
                    && self.round.lost * LOSS_SHARE >= in_flight + self.round.lost;
                if many && !matches!(self.mode, Mode::ProbeRtt(_)) {
                    self.recovery = Some(Recovery { since: now, window_before: self.window });
                    self.window = in_flight + self.datagram;
                }
            }
        }
        self.bound_window();
    }

    /// Nothing came back for so long that all before it is void (RFC 9002, section 7.6): the window
    /// starts anew, the rate stays believed until rounds say otherwise.
    pub(crate) fn on_persistent_congestion(&mut self) {
        self.recovery = None;
        self.window = MIN_WINDOW * self.datagram;
        if let Mode::ProbeRtt(probe) = &mut self.mode {
            probe.window_before = self.window;
        }
    }

    /// The first datagram after the path ran empty.
    fn restart(&mut self, now: Time) {
        match self.mode {
            // Asking for more or less makes no sense yet.
            Mode::ProbeRate => self.rate = self.paced(UNIT),
            // Nothing could show the path better than that it is empty.
            Mode::ProbeRtt(probe) => self.leave_probe_rtt(now, probe),
            Mode::Startup | Mode::Drain => {}
        }
    }

    fn start_round(&mut self, rtt: Duration) {
        let usual = self.shortest.rtt.unwrap_or(rtt) * 2;
        let weight = micros(rtt) / micros(usual.max(LONG_ROUND));
        self.round.age += weight.clamp(1, MAX_ROUND_WEIGHT);
        self.round.ends_at = self.delivery.total();
        self.round.lost = 0;
    }

    fn is_full(&self) -> bool {
        self.growth.rounds >= FULL_ROUNDS
    }

    fn check_full(&mut self) {
        let rate = self.highest.get();
        if rate >= self.growth.rate + self.growth.rate / 4 {
            self.growth = Growth { rate, rounds: 0 };
        } else {
            self.growth.rounds += 1;
        }
    }

    fn advance_cycle(&mut self, now: Time, bytes: u64, in_flight: u64) {
        if self.mode != Mode::ProbeRate {
            return;
        }
        let gain = CYCLE[self.cycle.phase];
        let round_over = now.since(self.cycle.since) > self.shortest.rtt.unwrap_or_default();
        let over = if gain > UNIT {
            let reached = in_flight + bytes >= scaled(self.path_holds(), gain);
            round_over && (self.cycle.lost || reached)
        } else if gain < UNIT {
            round_over || in_flight <= self.path_holds()
        } else {
            round_over
        };
        if over {
            let phase = (self.cycle.phase + 1) % CYCLE.len();
            self.cycle = Cycle { phase, since: now, lost: false };
        }
    }

    fn leave_startup_and_drain(&mut self, now: Time, in_flight: u64) {
        if self.mode == Mode::Startup && self.is_full() {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && in_flight <= self.path_holds() {
            self.enter_probe_rate(now);
        }
    }

    fn enter_probe_rate(&mut self, now: Time) {
        self.mode = Mode::ProbeRate;
        // Any phase but the two about the rate; flows that share a path are to differ.
        let cruising = CYCLE.len() as u64 - FIRST_CRUISE;
        let phase = FIRST_CRUISE + self.delivery.total() / self.datagram % cruising;
        self.cycle = Cycle { phase: phase as usize, since: now, lost: false };
    }

    fn see_rtt(&mut self, now: Time, stamp: &Stamp, sample: Sample) {
        let age = now.since(self.shortest.seen_at);
        let expired = age > SHORTEST_HOLDS;
        let near = |shortest: Duration| sample.rtt <= shortest + shortest / 8;
        match self.shortest.rtt {
            Some(shortest) if sample.rtt > shortest => {
                if stamp.is_quiet() && age > QUIET_HOLDS {
                    self.shortest = Shortest { rtt: Some(sample.rtt), seen_at: now };
                } else if stamp.is_quiet() && near(shortest) {
                    self.shortest.seen_at = now;
                } else if expired && !matches!(self.mode, Mode::ProbeRtt(_)) {
                    self.enter_probe_rtt();
                }
            }
            _ => self.shortest = Shortest { rtt: Some(sample.rtt), seen_at: now },
        }
    }

    fn enter_probe_rtt(&mut self) {
        let window_before = self.recovery.take().map_or(self.window, |it| it.window_before);
        self.mode = Mode::ProbeRtt(ProbeRtt { shortest: Duration::MAX, window_before, end: None });
    }

    fn probe_rtt(&mut self, now: Time, stamp: &Stamp, sample: Sample, in_flight: u64) {
        let window = self.probe_rtt_window();
        let Mode::ProbeRtt(probe) = &mut self.mode else { return };
        // What is measured while little is sent does not show the rate.
        self.delivery.limit(in_flight);
        probe.shortest = probe.shortest.min(sample.rtt);
        match probe.end {
            None if in_flight <= window => {
                probe.end = Some((now + PROBE_RTT, self.delivery.total()));
            }
            Some((end, delivered)) if now >= end && stamp.delivered() >= delivered => {
                let probe = *probe;
                self.leave_probe_rtt(now, probe);
            }
            _ => {}
        }
    }

    fn leave_probe_rtt(&mut self, now: Time, probe: ProbeRtt) {
        if probe.shortest < Duration::MAX {
            self.shortest.rtt = Some(probe.shortest);
        }
        self.shortest.seen_at = now;
        self.window = self.window.max(probe.window_before);
        if self.is_full() {
            self.enter_probe_rate(now);
        } else {
            self.mode = Mode::Startup;
        }
    }

    fn probe_rtt_window(&self) -> u64 {
        (self.path_holds() / 2).max(MIN_WINDOW * self.datagram)
    }

    fn set_rate(&mut self) {
        let gain = match self.mode {
            Mode::Startup => STARTUP_GAIN,
            Mode::Drain => DRAIN_GAIN,
            Mode::ProbeRate => CYCLE[self.cycle.phase],
            Mode::ProbeRtt(_) => UNIT,
        };
        let rate = self.paced(gain);
        // A first sample may be small for want of data; the guess stands until the path is full.
        if self.is_full() || rate > self.rate {
            self.rate = rate;
        }
    }

    fn set_window(&mut self, bytes: u64, stamp: &Stamp, in_flight: u64) {
        if self.recovery.is_some_and(|recovery| stamp.sent_at() > recovery.since) {
            let before = self.recovery.take().map_or(0, |recovery| recovery.window_before);
            self.window = self.window.max(before);
        }
        let gain = if self.is_full() { WINDOW_GAIN } else { STARTUP_GAIN };
        // What is being sent or gathered in one go, here and there, comes on top.
        let target = scaled(self.path_holds(), gain) + 3 * self.quantum();
        if self.recovery.is_some() {
            self.window = self.window.max(in_flight + bytes);
        } else if self.is_full() {
            self.window = (self.window + bytes).min(target);
        } else if self.window < target || self.delivery.total() < INITIAL_BYTES {
            self.window += bytes;
        }
        if matches!(self.mode, Mode::ProbeRtt(_)) {
            self.window = self.window.min(self.probe_rtt_window());
        }
        self.bound_window();
    }

    fn bound_window(&mut self) {
        let least = (MIN_WINDOW * self.datagram).min(MAX_WINDOW);
        self.window = self.window.clamp(least, MAX_WINDOW);
    }

    /// The rate at this gain, once there is one.
    fn paced(&self, gain: u64) -> u64 {
        match self.highest.get() {
            0 => self.rate,
            rate => (scaled(rate, gain) * PACING_PERCENT / 100).clamp(1, MAX_RATE),
        }
    }

    /// Bytes in flight that keep the path busy without a queue.
    fn path_holds(&self) -> u64 {
        match self.shortest.rtt {
            Some(rtt) => self.highest.get() * micros(rtt) / 1_000_000,
            None => self.window,
        }
    }

    /// What leaves in one go: a millisecond's worth, one or two datagrams at least.
    fn quantum(&self) -> u64 {
        (self.rate / 1000).clamp(2 * self.datagram, (64 * 1024).max(2 * self.datagram))
    }
}

fn scaled(value: u64, gain: u64) -> u64 {
    value * gain / UNIT
}

/// Bytes per second.
fn rate_of(bytes: u64, time: Duration) -> u64 {
    let nanoseconds = (time.as_nanos() as u64).max(1);
    (bytes.saturating_mul(1_000_000_000) / nanoseconds).clamp(1, MAX_RATE)
}

/// At least one, and at most as many as keep a product with [`MAX_RATE`] and a gain in 64 bits.
fn micros(time: Duration) -> u64 {
    (time.as_nanos() as u64).div_ceil(1000).clamp(1, 100_000_000)
}
