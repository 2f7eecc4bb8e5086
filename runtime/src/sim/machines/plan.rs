//! How one run goes: sizes, network, faults, drawn from its seed.

use std::sync::Arc;
use std::time::Duration;

use super::datagrams::Trouble;
use super::{Config, Faults};
use crate::limits::Limits;
use crate::semantics::Semantics;
use crate::sim::rng::Rng;

/// What was drawn for a run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) servers: usize,
    pub(super) calls: usize,
    /// Time over which calls are made, in microseconds.
    pub(super) duration_us: u64,
    /// Longest time that bytes take in a good network, in microseconds.
    pub(super) latency_us: u64,
    /// Of a thousand deliveries, so many stand still for long.
    pub(super) stalls: u64,
    /// How many links are cut, of all clients together.
    pub(super) cuts: u64,
    pub(super) crashes: u64,
    pub(super) pauses: u64,
    pub(super) drains: u64,
    /// Of a thousand frames, so many come again.
    pub(super) duplicates: u64,
    /// Of a thousand calls, so many arrive late and alone.
    pub(super) overtaken: u64,
    /// Of a thousand calls, so many have a deadline, and so many are cancelled or dropped.
    pub(super) deadlines: u64,
    pub(super) give_ups: u64,
    /// Of a thousand calls, so many have large arguments or results.
    pub(super) large: u64,
    /// Of a thousand calls, so many are refused, or panic.
    pub(super) odd: u64,
    /// Longest time that a handler takes, in microseconds.
    pub(super) handler_us: u64,
    /// Bytes that a stream takes before its writer waits.
    pub(super) kernel: usize,
    /// The semantics that calls have.
    pub(super) semantics: &'static [Semantics],
    pub(super) limits: Arc<Limits>,
    /// What goes wrong with datagrams, if the network is one of datagrams.
    pub(super) trouble: Option<Trouble>,
}

impl Plan {
    /// What this seed does under this configuration.
    pub(super) fn draw(seed: u64, config: &Config) -> Plan {
        let mut rng = Rng::new(seed ^ 0xfa2c_a115_eed5);
        let rng = &mut rng;
        let faults = config.faults.drawn(rng);
        let large = rng.pick(&[0, 0, 20, 200]);
        // A large message over a tiny and slow stream would take longer than any link lives.
        let (kernels, slowest): (&[usize], _) = match large {
            0 => (&[40, 200, 4000, 200_000], 50_000),
            _ => (&[4000, 40_000, 200_000], 4_000),
        };
        let some = |rng: &mut Rng, on: bool, most| if on { 1 + rng.below(most) } else { 0 };
        let mut plan = Plan {
            clients: 1 + rng.below(config.clients) as usize,
            servers: 1 + rng.below(config.servers) as usize,
            calls: rng.spread(1, config.calls) as usize,
            duration_us: rng.spread(2_000, 8_000_000),
            latency_us: rng.spread(50, slowest),
            stalls: some(rng, faults.stalls, 200),
            cuts: some(rng, faults.cuts, 8),
            crashes: some(rng, faults.crashes, 3),
            pauses: some(rng, faults.pauses, 2),
            drains: some(rng, faults.drains, 2),
            duplicates: some(rng, faults.duplicates, 400),
            overtaken: some(rng, faults.overtaking, 300),
            deadlines: some(rng, faults.give_ups, 500),
            give_ups: some(rng, faults.give_ups, 300),
            large,
            odd: rng.pick(&[0, 50, 300]),
            handler_us: rng.spread(100, 2_000_000),
            kernel: rng.pick(kernels),
            semantics: rng.pick(MIXES),
            limits: Arc::new(limits(rng)),
            trouble: None,
        };
        if config.datagrams {
            plan.use_datagrams(&config.faults, rng);
        }
        plan
    }

    fn use_datagrams(&mut self, faults: &Faults, rng: &mut Rng) {
        self.duplicates = 0;
        self.overtaken = 0;
        let limits = (*self.limits).clone();
        let unvalidated_links = rng.pick(&[0, 1, 64]);
        // Long enough for the smaller HELLO that follows three large ones.
        let handshake_timeout = Duration::from_secs(5);
        self.limits = Arc::new(Limits { unvalidated_links, handshake_timeout, ..limits });
        self.trouble = Some(Trouble::draw(faults, self.duration_us, rng));
    }
}

impl Faults {
    /// Some of these.
    fn drawn(self, rng: &mut Rng) -> Faults {
        let mut drawn = |on: bool| rng.chance(500) && on;
        Faults {
            cuts: drawn(self.cuts),
            stalls: drawn(self.stalls),
            duplicates: drawn(self.duplicates),
            overtaking: drawn(self.overtaking),
            crashes: drawn(self.crashes),
            pauses: drawn(self.pauses),
            drains: drawn(self.drains),
            give_ups: drawn(self.give_ups),
            ..self
        }
    }
}

/// Small limits, so that runs reach them.
fn limits(rng: &mut Rng) -> Limits {
    let window = rng.pick(&[1, 2, 5, 16, 1024]);
    Limits {
        message: 400 << 10,
        window,
        request_bytes: rng.pick(&[50, 250_000, 64 << 20]),
        reply_bytes: rng.pick(&[window * (64 << 10) + 50_000, 64 << 20]),
        send_buffer: rng.pick(&[100, 4 << 10, 1 << 20]),
        session_ttl: TTL,
        default_timeout: None,
        handshake_timeout: Duration::from_secs(1),
        ping_interval: Duration::from_millis(1500),
        progress_timeout: Duration::from_secs(10),
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(500),
        ack_batch: rng.pick(&[1, 4, 32]),
        ack_solicit: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// How long servers keep sessions without a link.
pub(super) const TTL: Duration = Duration::from_secs(6);

pub(super) const TTL_US: u64 = TTL.as_micros() as u64;

const MIXES: &[&[Semantics]] = &[
    &[Semantics::AtMostOnce],
    &[Semantics::AtMostOnce],
    &[Semantics::AtLeastOnce, Semantics::AtMostOnce],
    &[Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce],
    &[Semantics::Maybe, Semantics::AtMostOnce],
];
