//! The programs: they make calls, with keys or without, wait, give up, cancel, and forget.

use super::Step;
use super::disk::{Disk, Fault};
use super::method::{Came, Event as Done, request};
use super::oracle::Told;
use super::plan::address;
use super::world::{Event, World};
use crate::id::{Seq, StoreId};
use crate::protocol::durable::batch::{Failure, Task};
use crate::protocol::durable::journal::{self, Saving};
use crate::protocol::durable::rows::JournalRows;

/// One call in a program.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    node: usize,
    life: u32,
    nonce: u64,
    key: Option<u64>,
    /// The number of the saved call.
    seq: Option<Seq>,
}

impl World {
    pub(super) fn call(&mut self, node: usize) {
        if self.nodes[node].life.is_none() {
            return;
        }
        let (life, nonce) = (self.nodes[node].lives, self.rng.next());
        let key = self.rng.chance(self.plan.keyed).then(|| self.rng.below(KEYS));
        let servers = self.plan.servers as u64;
        // The same key stands for the same request, nearly always.
        let (peer, arguments) = match key {
            Some(key) => (key % servers, vec![1 + u8::from(self.rng.chance(50))]),
            None if self.rng.chance(self.plan.unknown_methods) => {
                (self.rng.below(servers), vec![NO_METHOD])
            }
            // Each server listens at three addresses.
            None => (self.rng.below(servers * 3), vec![0]),
        };
        let server = self.plan.clients + (peer % servers) as usize;
        self.oracle.called(nonce, node, server, None);
        let text = key.map(|key| key.to_string().into());
        let saved = request(address(peer), nonce, arguments, text, None);
        let (limits, back) = (self.plan.limits.clone(), self.rng.chance(self.plan.rolled_back));
        let attempt = self.attempts.len();
        self.attempts.push(Attempt { node, life, nonce, key, seq: None });
        let run = move |db: &mut Disk| {
            let saving = journal::save(db, &saved, &limits)?;
            // The program's own transaction may come to nothing.
            if back { Err(Fault::Program) } else { Ok(saving) }
        };
        self.trace.note(self.now, 7, nonce);
        self.trace.line(self.now, || format!("node {node}: call {nonce:x} to {peer}, key {key:?}"));
        let work = self.task(node, run, move |came| Done::Saved(attempt, came));
        self.submit(node, work);
        if self.rng.chance(self.plan.timeouts) {
            let at = self.rng.spread(100, 1_000_000);
            self.after(at, Event::Deadline { attempt });
        }
        if self.rng.chance(self.plan.cancels) {
            let at = self.rng.spread(100, 500_000);
            self.after(at, Event::Cancel { attempt });
        }
    }

    pub(super) fn saved(&mut self, node: usize, number: usize, came: Came<Saving>) -> Step {
        let Attempt { nonce, .. } = self.attempts[number];
        let store = self.nodes[node].disk.image.store;
        match came {
            Ok(Saving::New { seq, .. }) => {
                self.attempts[number].seq = Some(seq);
                self.wait(node, number, seq);
                Ok(())
            }
            Ok(Saving::Attached { seq, outcome }) => {
                self.attempts[number].seq = Some(seq);
                self.events.attached += 1;
                self.oracle.told(nonce, Told::Never, true)?;
                let ended = match outcome {
                    Some(outcome) => Some(outcome),
                    None => self.wait(node, number, seq),
                };
                match ended.as_ref().and_then(Told::of) {
                    Some(told) => self.tell(node, store, number, told),
                    None => Ok(()),
                }
            }
            Ok(Saving::KeyConflict | Saving::Full) => {
                self.events.not_saved += 1;
                self.oracle.told(nonce, Told::Never, true)
            }
            Err(Failure::NotCommitted(_)) => self.oracle.told(nonce, Told::Never, true),
            // It may show when the journal is opened again.
            Err(Failure::Unknown(_)) => {
                self.events.deferred += 1;
                Ok(())
            }
        }
    }

    /// Waits for a call that is driven, or says how it ended.
    fn wait(
        &mut self,
        node: usize,
        attempt: usize,
        seq: Seq,
    ) -> Option<crate::protocol::durable::rows::Outcome> {
        let active = self.nodes[node].life.as_mut()?.calls.get_mut(&seq)?;
        if active.ended.is_none() {
            active.waiters.push(attempt);
        }
        active.ended.clone()
    }

    /// An attempt has its result.
    pub(super) fn tell(&mut self, node: usize, store: StoreId, attempt: usize, told: Told) -> Step {
        match self.attempts[attempt].key {
            Some(key) => self.oracle.keyed(node, store, key, told),
            None => Ok(()),
        }
    }

    /// The attempt's process lives, and its call is saved and not ended: its number.
    fn running(&mut self, attempt: usize) -> Option<(usize, Seq)> {
        let Attempt { node, life, seq, .. } = self.attempts[attempt];
        let alive = self.nodes[node].life.as_ref().filter(|alive| alive.number == life)?;
        let seq =
            seq.filter(|seq| alive.calls.get(seq).is_some_and(|call| call.ended.is_none()))?;
        Some((node, seq))
    }

    /// The program waits no longer; the call goes on.
    pub(super) fn deadline(&mut self, attempt: usize) {
        if let Some((node, seq)) = self.running(attempt)
            && let Some(life) = &mut self.nodes[node].life
            && let Some(active) = life.calls.get_mut(&seq)
        {
            active.waiters.retain(|waiter| *waiter != attempt);
            self.events.deferred += 1;
            // Some come back to their ticket.
            if self.rng.chance(500) {
                let at = self.rng.spread(1_000, 1_000_000);
                self.after(at, Event::Wait { attempt });
            }
        }
    }

    pub(super) fn wait_again(&mut self, attempt: usize) {
        if let Some((node, seq)) = self.running(attempt) {
            self.wait(node, attempt, seq);
        }
    }

    pub(super) fn cancel(&mut self, attempt: usize) {
        if let Some((node, seq)) = self.running(attempt) {
            self.events.cancels += 1;
            let call = self.nodes[node].life.as_ref().and_then(|life| life.calls.get(&seq));
            if let Some(nonce) = call.map(|call| call.nonce) {
                self.oracle.cancel(nonce);
            }
            let run = move |db: &mut Disk| journal::cancel_unsent(db, seq);
            let work = self.task(node, run, move |came| Done::Cancelled(seq, came));
            self.submit(node, work);
        }
    }

    pub(super) fn forget_key(&mut self, node: usize) {
        if self.nodes[node].life.is_none() {
            return;
        }
        let key = self.rng.below(KEYS);
        self.oracle.forgot_key(self.nodes[node].disk.image.store, key);
        let run = move |db: &mut Disk| match db.keyed(&key.to_string())? {
            Some(keyed) => journal::forget(db, keyed.seq).map(drop),
            None => Ok(()),
        };
        self.submit(node, Box::new(Task::new(run, |_| {})));
    }
}

/// Keys that a program uses.
const KEYS: u64 = 3;
/// The argument that stands for a method that is not there.
pub(super) const NO_METHOD: u8 = 9;
