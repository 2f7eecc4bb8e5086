//! How one run goes: sizes, network, faults, drawn from its seed.

use std::sync::Arc;

use super::disk::Odds;
use super::{Config, Faults};
use crate::id::MethodId;
use crate::limits::Limits;
use crate::sim::rng::Rng;

/// What was drawn for a run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) servers: usize,
    /// Calls of each client.
    pub(super) calls: usize,
    /// Time over which calls are made, in microseconds; faults go on for twice that.
    pub(super) duration_us: u64,
    pub(super) latency_us: u64,
    /// Of a thousand messages, so many are lost, come again, or late.
    pub(super) loss: u64,
    pub(super) repeats: u64,
    pub(super) held_up: u64,
    /// Of a thousand questions, so many are refused by the session.
    pub(super) busy: u64,
    pub(super) crashes: u64,
    /// Of the three addresses of each server, one is not there before nothing goes wrong any more.
    pub(super) absent: bool,
    pub(super) disk: Odds,
    /// How often a disk is full for a while.
    pub(super) full: u64,
    pub(super) restored: u64,
    pub(super) replaced: u64,
    pub(super) copied: u64,
    pub(super) purged: u64,
    /// Of a thousand calls, so many have a key, a timeout, are cancelled, or are saved in a transaction that is taken
    /// back.
    pub(super) keyed: u64,
    pub(super) timeouts: u64,
    pub(super) cancels: u64,
    pub(super) rolled_back: u64,
    /// Of a thousand calls, so many are to a method that is not there.
    pub(super) unknown_methods: u64,
    pub(super) errors: u64,
    pub(super) odd: u64,
    pub(super) chains: u64,
    /// Works that share a commit, and how long the writer waits for more.
    pub(super) batch: usize,
    pub(super) settle_us: u64,
    /// Adoptions are told before calls are published.
    pub(super) adopts_first: bool,
    pub(super) limits: Arc<Limits>,
}

impl Plan {
    /// What this seed does under this configuration.
    pub(super) fn draw(seed: u64, config: &Config) -> Plan {
        let mut rng = Rng::new(seed ^ 0x0d15_c0fa_11ed);
        let rng = &mut rng;
        let faults = config.faults.drawn(rng);
        let some = |rng: &mut Rng, on: bool, most| if on { 1 + rng.below(most) } else { 0 };
        Plan {
            clients: 1 + rng.below(config.clients) as usize,
            servers: 1 + rng.below(config.servers) as usize,
            calls: rng.spread(2, config.calls) as usize,
            duration_us: rng.spread(20_000, 3_000_000),
            latency_us: rng.spread(50, 20_000),
            loss: some(rng, faults.loss, 300),
            repeats: some(rng, faults.repeats, 400),
            held_up: some(rng, faults.delays, 200),
            busy: some(rng, faults.refusals, 200),
            crashes: some(rng, faults.crashes, 8),
            absent: faults.absent,
            disk: Odds {
                statement: some(rng, faults.statements, 15),
                refused: some(rng, faults.commits, 60),
                unknown: some(rng, faults.commits, 40),
            },
            full: some(rng, faults.full, 3),
            restored: some(rng, faults.restored, 2),
            replaced: some(rng, faults.replaced, 2),
            copied: some(rng, faults.copied, 2),
            purged: some(rng, faults.purged, 4),
            keyed: rng.pick(&[0, 200, 600]),
            timeouts: some(rng, faults.give_ups, 500),
            cancels: some(rng, faults.give_ups, 300),
            rolled_back: rng.pick(&[0, 0, 100]),
            unknown_methods: rng.pick(&[0, 0, 50]),
            errors: rng.pick(&[0, 100, 300]),
            odd: some(rng, faults.methods, 200),
            chains: rng.pick(&[0, 300, 700]),
            batch: rng.pick(&[1, 2, 8, 64]),
            settle_us: rng.spread(100, 50_000),
            adopts_first: rng.chance(500),
            limits: Arc::new(Limits {
                journal_rows: rng.pick(&[8, 1000, 1000]),
                inbox_rows: rng.pick(&[1, 3, 1000]),
                handler_attempts: rng.pick(&[1, 2, 3]),
                ..Limits::default()
            }),
        }
    }

    /// Whether nobody touches a store behind farcall's back: then nothing is ever parked or stopped.
    pub(super) fn is_honest(&self) -> bool {
        self.restored + self.replaced + self.copied + self.purged == 0
    }
}

impl Faults {
    /// Some of these.
    fn drawn(self, rng: &mut Rng) -> Faults {
        let honest = rng.chance(500);
        let mut drawn = |on: bool, permille: u64| rng.chance(permille) && on;
        Faults {
            loss: drawn(self.loss, 500),
            repeats: drawn(self.repeats, 600),
            delays: drawn(self.delays, 500),
            refusals: drawn(self.refusals, 300),
            crashes: drawn(self.crashes, 600),
            statements: drawn(self.statements, 300),
            commits: drawn(self.commits, 400),
            full: drawn(self.full, 200),
            methods: drawn(self.methods, 400),
            absent: drawn(self.absent, 300),
            give_ups: drawn(self.give_ups, 500),
            restored: drawn(self.restored && !honest, 400),
            replaced: drawn(self.replaced && !honest, 400),
            copied: drawn(self.copied && !honest, 400),
            purged: drawn(self.purged && !honest, 300),
        }
    }
}

/// The address of a server; each listens at three.
pub(super) fn address(peer: u64) -> std::sync::Arc<str> {
    format!("tcp://server:{peer}").into()
}

/// The server that listens at an address.
pub(super) fn server_at(peer: &str) -> usize {
    let number = peer.rsplit(':').next().and_then(|number| number.parse().ok());
    number.expect("all addresses are made by `address`")
}

/// The only method.
pub(super) const METHOD: MethodId = MethodId(7);
