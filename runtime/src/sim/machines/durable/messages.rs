//! What goes over the network, and how the network treats it.

use super::Step;
use super::world::{Event, World};
use crate::error::FailureCode;
use crate::id::StoreId;
use crate::protocol::durable::inbox::{NotRegistered, Register, Registered};
use crate::wire::frame::Ranges;

/// The way back to whoever asked: which exchange of which life of which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) node: usize,
    pub(super) life: u32,
    pub(super) exchange: u64,
}

/// A question to a server.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) way: Way,
    /// The node that listens there, and the store of the one that asks.
    pub(super) to: usize,
    pub(super) sender: StoreId,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Call { stamp: Vec<u8>, arguments: Vec<u8> },
    Register(Register),
    Fence { stamp: Vec<u8>, arguments: Vec<u8>, code: FailureCode },
    Forget { stamp: Vec<u8>, above: Ranges },
}

/// What comes back.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Word(Vec<u8>),
    Registered(Result<Registered, NotRegistered>),
    Forgotten,
    /// The session refused the call.
    Refused(FailureCode),
}

impl World {
    /// Sends a question; it may be lost, or arrive again, or after all that is sent later.
    pub(super) fn send(&mut self, ask: Ask) {
        if self.rng.chance(50) && self.remembered.len() < REMEMBERED {
            self.remembered.push(ask.clone());
        }
        if self.passes() {
            let at = self.transit();
            self.after(at, Event::Arrive(ask.clone()));
        }
        if self.repeats() {
            self.events.repeats += 1;
            let late = self.rng.spread(1_000, 4_000_000);
            self.after(late, Event::Arrive(ask));
        }
    }

    pub(super) fn answer(&mut self, way: Way, reply: Reply) {
        if self.passes() {
            let at = self.transit();
            self.after(at, Event::Answer(way, reply.clone()));
        }
        if self.repeats() {
            let late = self.rng.spread(1_000, 1_000_000);
            self.after(late, Event::Answer(way, reply));
        }
    }

    fn passes(&mut self) -> bool {
        let lost = !self.healed && self.rng.chance(self.plan.loss);
        self.events.lost += u64::from(lost);
        !lost
    }

    fn repeats(&mut self) -> bool {
        !self.healed && self.rng.chance(self.plan.repeats)
    }

    fn transit(&mut self) -> u64 {
        let slow = !self.healed && self.rng.chance(self.plan.held_up);
        if slow {
            self.rng.spread(10_000, 3_000_000)
        } else {
            self.rng.spread(20, self.plan.latency_us)
        }
    }

    /// What somebody kept of the traffic arrives once more.
    pub(super) fn send_remembered(&mut self) -> Step {
        for ask in std::mem::take(&mut self.remembered) {
            let at = self.rng.spread(20, 1_000_000);
            self.after(at, Event::Arrive(ask));
        }
        Ok(())
    }
}

/// Questions that are kept to the end of a run.
const REMEMBERED: usize = 40;
