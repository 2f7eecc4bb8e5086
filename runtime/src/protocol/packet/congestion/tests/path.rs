//! A path in virtual time: one bottleneck with a queue, a delay, loss, repeats and jitter, and
//! senders on it. No frames, only datagrams of one size and their acknowledgements.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::super::*;
use crate::protocol::packet::received::{MAX_RANGES, Received};
use crate::protocol::packet::reordering::Reordering;
use crate::protocol::packet::rtt::Rtt;

pub(super) const DATAGRAM: usize = 1200;
const ACK_DELAY: Duration = Duration::from_millis(5);

/// What the path does; may be changed while it runs.
#[derive(Clone, Copy)]
pub(super) struct Path {
    /// Bytes per second.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    /// Bytes.
    pub(super) queue: u64,
    /// Of 1000, both ways.
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) jitter: Duration,
    /// How late a timer of the sender may be.
    pub(super) timer: Duration,
}

/// What a sender has to send.
#[derive(Clone, Copy)]
pub(super) enum Supply {
    Endless,
    Nothing,
    /// So many datagrams at once, again when all of them are acknowledged or lost.
    Requests(u64),
    /// So many datagrams each time this passed.
    Every(Duration, u64),
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) path: Path,
    pub(super) flows: Vec<Flow>,
    free_at: Time,
    events: BinaryHeap<Reverse<(Time, u64, usize, Event)>>,
    order: u64,
    random: u64,
}

pub(super) struct Flow {
    pub(super) controller: Controller,
    pub(super) rtt: Rtt,
    /// Datagrams that were taken for lost and were not.
    pub(super) spurious: u64,
    reordering: Reordering,
    largest_acked: u64,
    pub(super) in_flight: usize,
    pub(super) supply: Supply,
    /// Datagrams that the receiver has, each counted once.
    pub(super) delivered: u64,
    /// Bytes that left at one moment, at most.
    pub(super) most_at_once: usize,
    /// Datagrams that found the queue full.
    pub(super) dropped: u64,
    waiting: u64,
    next_number: u64,
    outstanding: BTreeMap<u64, Sent>,
    received: Received,
    unacknowledged: u64,
    heard_at: Time,
    at_this_moment: (Time, usize),
    wakes_at: Time,
}

struct Sent {
    stamp: Stamp,
    lost: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(u64),
    Acknowledge,
    Ack(Vec<(u64, u64)>),
    Wake,
    Supply,
}

impl World {
    pub(super) fn new(path: Path, flows: usize, supply: Supply) -> World {
        let now = Time::ZERO;
        let mut world = World {
            now,
            path,
            flows: (0..flows).map(|_| Flow::new(now, path.rtt, supply)).collect(),
            free_at: now,
            events: BinaryHeap::new(),
            order: 0,
            random: 42,
        };
        for flow in 0..flows {
            world.supply(flow, supply);
        }
        world
    }

    /// Gives a flow another supply from now on.
    pub(super) fn supply(&mut self, flow: usize, supply: Supply) {
        self.flows[flow].supply = supply;
        self.flows[flow].waiting = 0;
        self.schedule(self.now, flow, Event::Supply);
    }

    /// Runs for so long; calls `see` after each event.
    pub(super) fn run(&mut self, time: Duration, mut see: impl FnMut(&World)) {
        let end = self.now + time;
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, flow, event))) = self.events.pop() else { break };
            self.now = at;
            self.handle(flow, event);
            self.transmit(flow);
            self.flows[flow].check();
            see(self);
        }
        self.now = end;
    }

    /// Bytes per second that a flow got through in this time.
    pub(super) fn goodput(&mut self, flow: usize, time: Duration) -> u64 {
        let before = self.flows[flow].delivered;
        self.run(time, |_| {});
        let bytes = (self.flows[flow].delivered - before) * DATAGRAM as u64;
        bytes * 1000 / time.as_millis() as u64
    }

    fn handle(&mut self, flow: usize, event: Event) {
        match event {
            Event::Arrive(number) => {
                let gap = self.flows[flow].arrive(number);
                match self.flows[flow].unacknowledged {
                    0 => {}
                    1 if !gap => self.schedule(self.now + ACK_DELAY, flow, Event::Acknowledge),
                    _ => self.acknowledge(flow),
                }
            }
            Event::Acknowledge => self.acknowledge(flow),
            Event::Ack(ranges) => self.flows[flow].on_ack(self.now, &ranges),
            Event::Wake => self.flows[flow].on_wake(self.now),
            Event::Supply => {
                if let Supply::Every(period, count) = self.flows[flow].supply {
                    self.flows[flow].waiting += count;
                    self.schedule(self.now + period, flow, Event::Supply);
                }
            }
        }
    }

    fn acknowledge(&mut self, flow: usize) {
        if std::mem::take(&mut self.flows[flow].unacknowledged) > 0 && !self.chance(self.path.lost)
        {
            let ranges = self.flows[flow].received.ranges(MAX_RANGES).collect();
            let at = self.now + self.path.rtt / 2 + self.draw_jitter();
            self.schedule(at, flow, Event::Ack(ranges));
        }
    }

    fn transmit(&mut self, flow: usize) {
        loop {
            let sender = &mut self.flows[flow];
            sender.fill();
            let ready_at = sender.controller.ready_at(self.now, DATAGRAM, sender.in_flight);
            let fits = sender.in_flight + DATAGRAM <= sender.controller.window();
            if sender.waiting == 0 || !fits || ready_at > self.now {
                let paced = if sender.waiting > 0 && fits { ready_at } else { Time::NEVER };
                self.wake(flow, paced);
                return;
            }
            let number = sender.send(self.now);
            self.carry(flow, number);
        }
    }

    /// Wakes a flow when it may go on, or when it must ask or give up something.
    fn wake(&mut self, flow: usize, paced: Time) {
        let at = paced.min(self.flows[flow].timeout());
        if at == Time::NEVER {
            return;
        }
        let timer = self.path.timer.as_nanos() as u64;
        let late =
            if timer > 0 { Duration::from_nanos(self.draw() % timer) } else { Duration::ZERO };
        let at = at + late;
        let sender = &mut self.flows[flow];
        if at < sender.wakes_at || sender.wakes_at <= self.now {
            sender.wakes_at = at;
            self.schedule(at, flow, Event::Wake);
        }
    }

    fn carry(&mut self, flow: usize, number: u64) {
        let per_byte = |bytes: u64, rate: u64| Duration::from_nanos(bytes * 1_000_000_000 / rate);
        let start = self.free_at.max(self.now);
        let rate = self.path.rate;
        if start.since(self.now) > per_byte(self.path.queue, rate) {
            self.flows[flow].dropped += 1;
            return;
        }
        self.free_at = start + per_byte(DATAGRAM as u64, rate);
        if self.chance(self.path.lost) {
            return;
        }
        for _ in 0..1 + u64::from(self.chance(self.path.repeated)) {
            let at = self.free_at + self.path.rtt / 2 + self.draw_jitter();
            self.schedule(at, flow, Event::Arrive(number));
        }
    }

    fn schedule(&mut self, at: Time, flow: usize, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, flow, event)));
    }

    fn draw(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.random >> 33
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        self.draw() % 1000 < of_1000
    }

    fn draw_jitter(&mut self) -> Duration {
        match self.path.jitter.as_nanos() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_nanos(self.draw() % most),
        }
    }
}

impl Flow {
    fn new(now: Time, rtt: Duration, supply: Supply) -> Flow {
        Flow {
            controller: Controller::new(now, DATAGRAM, rtt),
            rtt: Rtt::new(rtt),
            spurious: 0,
            reordering: Reordering::default(),
            largest_acked: 0,
            in_flight: 0,
            supply,
            delivered: 0,
            most_at_once: 0,
            dropped: 0,
            waiting: 0,
            next_number: 0,
            outstanding: BTreeMap::new(),
            received: Received::default(),
            unacknowledged: 0,
            heard_at: now,
            at_this_moment: (now, 0),
            wakes_at: now,
        }
    }

    fn fill(&mut self) {
        match self.supply {
            Supply::Endless => self.waiting = 2,
            Supply::Requests(count) if self.in_flight == 0 && self.waiting == 0 => {
                self.waiting = count;
            }
            _ => {}
        }
    }

    fn send(&mut self, now: Time) -> u64 {
        self.waiting -= 1;
        let number = self.next_number;
        self.next_number += 1;
        if self.in_flight == 0 {
            self.heard_at = now;
        }
        let limited = self.waiting == 0;
        let stamp = self.controller.on_sent(now, DATAGRAM, self.in_flight, limited);
        self.in_flight += DATAGRAM;
        self.outstanding.insert(number, Sent { stamp, lost: false });
        let (moment, bytes) = self.at_this_moment;
        let bytes = if moment == now { bytes + DATAGRAM } else { DATAGRAM };
        self.at_this_moment = (now, bytes);
        self.most_at_once = self.most_at_once.max(bytes);
        number
    }

    /// The receiver's side; whether a number is missing.
    fn arrive(&mut self, number: u64) -> bool {
        if self.received.insert(number) {
            self.delivered += 1;
            self.unacknowledged += 1;
        }
        self.received.has_gap()
    }

    fn on_ack(&mut self, now: Time, ranges: &[(u64, u64)]) {
        let largest = ranges[0].1 - 1;
        if let Some(sent) = self.outstanding.get(&largest) {
            self.rtt.update(now.since(sent.stamp.sent_at()), Duration::ZERO, ACK_DELAY);
        }
        for &(start, end) in ranges {
            let numbers: Vec<u64> = self.outstanding.range(start..end).map(|(n, _)| *n).collect();
            for number in numbers.into_iter().rev() {
                let Some(sent) = self.outstanding.remove(&number) else { continue };
                self.heard_at = now;
                if sent.lost {
                    self.spurious += 1;
                    let age = now.since(sent.stamp.sent_at());
                    let overtaken = self.largest_acked.saturating_sub(number);
                    self.reordering.on_spurious(overtaken, age, &self.rtt);
                } else {
                    self.in_flight -= DATAGRAM;
                }
                self.controller.on_acked(now, DATAGRAM, sent.stamp, self.in_flight);
            }
        }
        self.largest_acked = self.largest_acked.max(largest);
        let largest = self.largest_acked;
        let delay = self.reordering.delay(&self.rtt);
        let mut lost = Vec::new();
        for (&number, sent) in self.outstanding.range(..largest) {
            let old = now.since(sent.stamp.sent_at()) > delay;
            if !sent.lost && (old || number + self.reordering.numbers() <= largest) {
                lost.push(number);
            }
        }
        for number in lost {
            self.lose(now, number);
        }
        // What is long lost is forgotten.
        self.outstanding.retain(|number, sent| !sent.lost || number + 1000 > largest);
    }

    fn lose(&mut self, now: Time, number: u64) {
        if let Some(sent) = self.outstanding.get_mut(&number) {
            sent.lost = true;
            self.in_flight -= DATAGRAM;
            self.controller.on_lost(now, DATAGRAM, self.in_flight);
        }
    }

    /// Gives all up if nothing was heard for too long; the next datagram is the probe.
    fn on_wake(&mut self, now: Time) {
        if now >= self.timeout() {
            let waiting = self.outstanding.iter().filter(|(_, sent)| !sent.lost);
            for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
                self.lose(now, number);
            }
        }
    }

    fn timeout(&self) -> Time {
        match self.in_flight {
            0 => Time::NEVER,
            _ => self.heard_at + self.rtt.pto(ACK_DELAY) * 2,
        }
    }

    fn check(&self) {
        let window = self.controller.window();
        assert!(window >= 4 * DATAGRAM && window <= MAX_WINDOW as usize);
        assert!(self.controller.pacing_rate() > 0);
    }
}
