//! How bad a network of datagrams is, drawn from a run's seed.

use super::super::Faults;
use crate::sim::rng::Rng;

/// What goes wrong with datagrams.
#[derive(Debug, Clone)]
pub(in super::super) struct Trouble {
    /// Of a thousand, so many are lost.
    pub(super) loss_up: u64,
    pub(super) loss_down: u64,
    /// Of a thousand that carry nothing but ACK, so many are lost.
    pub(super) acks: u64,
    /// Of a thousand, so many come twice; of a thousand of these, so many come late.
    pub(super) duplicates: u64,
    pub(super) late: u64,
    /// Of a thousand, so many are held up, by up to so much.
    pub(super) jitter: u64,
    pub(super) jitter_us: u64,
    /// Of a thousand, so many arrive changed, or cut off.
    pub(super) corrupt: u64,
    pub(super) truncate: u64,
    pub(super) hole: Option<Hole>,
    /// How often clients change their addresses, and datagrams are forged.
    pub(super) rebinds: u64,
    pub(super) forgeries: u64,
    /// Hosts say when nobody listens.
    pub(super) refuses: bool,
}

/// Datagrams over a size vanish.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    /// The largest that pass, in bytes.
    most: usize,
    from_us: u64,
    until_us: u64,
}

impl Trouble {
    /// Some of what is allowed.
    pub(in super::super) fn draw(faults: &Faults, duration_us: u64, rng: &mut Rng) -> Trouble {
        let some = |rng: &mut Rng, on: bool, most| match rng.chance(500) && on {
            true => 1 + rng.below(most),
            false => 0,
        };
        let loss = some(rng, faults.loss, 300);
        let (loss_up, loss_down) = match rng.below(4) {
            0 => (loss, 0),
            1 => (0, loss),
            _ => (loss, loss),
        };
        let holes = rng.chance(300) && faults.holes;
        Trouble {
            loss_up,
            loss_down,
            acks: if rng.chance(200) && faults.loss { 1000 } else { 0 },
            duplicates: some(rng, faults.duplicates, 400),
            late: rng.pick(&[0, 100, 500]),
            jitter: some(rng, faults.stalls, 1000),
            jitter_us: rng.spread(10, 400_000),
            corrupt: some(rng, faults.corruption, 100),
            truncate: some(rng, faults.corruption, 50),
            hole: holes.then(|| Hole::draw(duration_us, rng)),
            rebinds: some(rng, faults.rebinding, 5),
            forgeries: some(rng, faults.forgery, 40),
            refuses: rng.chance(500),
        }
    }

    /// Whether a datagram of this size vanishes now.
    pub(super) fn is_swallowed(&self, size: usize, elapsed_us: u64) -> bool {
        self.hole.is_some_and(|hole| {
            size > hole.most && (hole.from_us..hole.until_us).contains(&elapsed_us)
        })
    }
}

impl Hole {
    fn draw(duration_us: u64, rng: &mut Rng) -> Hole {
        let from_us = if rng.chance(300) { 0 } else { rng.below(duration_us) };
        // Every other one stays for good.
        let lasts_us = if rng.chance(500) { u64::MAX } else { rng.spread(1000, duration_us) };
        Hole {
            most: rng.between(548, 1199) as usize,
            from_us,
            until_us: from_us.saturating_add(lasts_us),
        }
    }
}
