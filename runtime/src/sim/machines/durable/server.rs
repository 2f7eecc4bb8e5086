//! The server's side: what it does with a question that arrives.

use super::Step;
use super::disk::Disk;
use super::messages::{Ask, Body, Reply, Way};
use super::method::{Event as Done, Happened, Manners, Method};
use super::plan::METHOD;
use super::program::NO_METHOD;
use super::world::World;
use crate::error::FailureCode;
use crate::id::StoreId;
use crate::protocol::durable::batch::{Task, Work};
use crate::protocol::durable::execute::Execute;
use crate::protocol::durable::rows::{Digest, InboxRows};
use crate::protocol::durable::{inbox, journal};
use crate::sim::oracle::broken;
use crate::wire::durable::Stamp;

impl World {
    /// A question arrives; nobody hears it if the server is down.
    pub(super) fn arrive(&mut self, ask: Ask) -> Step {
        let Ask { way, to, sender, body } = ask;
        let Some(life) = &self.nodes[to].life else { return Ok(()) };
        let happened = life.happened.clone();
        if !self.healed && self.rng.chance(self.plan.busy) {
            self.answer(way, Reply::Refused(FailureCode::Busy));
            return Ok(());
        }
        let limits = self.plan.limits.clone();
        let work: Box<dyn Work<Disk>> = match body {
            Body::Call { arguments, .. } if arguments[0] == NO_METHOD => {
                self.answer(way, Reply::Refused(FailureCode::NoSuchMethod));
                return Ok(());
            }
            Body::Call { stamp, arguments } => {
                let stamp = parse(&stamp)?;
                let digest = digest(&arguments, stamp.nonce);
                let manners = self.manners(to);
                let method =
                    Method { stamp, sender, way, manners, limits: limits.clone(), happened };
                Box::new(Execute::new(stamp, digest, limits, method))
            }
            Body::Register(register) => say(
                way,
                happened,
                move |db| inbox::register(db, &register, &limits),
                Reply::Registered,
            ),
            Body::Fence { stamp, arguments, code } => {
                let stamp = parse(&stamp)?;
                let digest = digest(&arguments, stamp.nonce);
                say(
                    way,
                    happened,
                    move |db| {
                        let verdict = inbox::fence(db, &stamp, &digest, code, "fenced", &limits)?;
                        let mut word = Vec::new();
                        verdict.word(db.commits()).put(&mut word);
                        Ok(word)
                    },
                    Reply::Word,
                )
            }
            Body::Forget { stamp, above } => {
                let stamp = parse(&stamp)?;
                let run = move |db: &mut Disk| inbox::forget(db, &stamp, &above);
                say(way, happened, run, |_| Reply::Forgotten)
            }
        };
        self.submit(to, work);
        Ok(())
    }

    fn manners(&self, server: usize) -> Manners {
        let plan = &self.plan;
        let next = (server - plan.clients) as u64 + 1;
        let (errors, odd, chains) = (plan.errors, plan.odd, plan.chains);
        Manners { errors, odd, chains, next, servers: plan.servers as u64 }
    }

    /// The store's program drops clients of which no answers are left.
    pub(super) fn purge(&mut self, server: usize) {
        if self.nodes[server].life.is_none() {
            return;
        }
        self.oracle.meddled.purged = true;
        self.events.purges += 1;
        let of: StoreId =
            self.nodes[self.rng.below(self.plan.clients as u64) as usize].disk.image.store;
        let run = move |db: &mut Disk| {
            let Some(row) = db.registration_of(of)? else { return Ok(()) };
            if db.answers(row.id)?.0 > 0 {
                return Ok(());
            }
            db.write(|draft| {
                std::sync::Arc::make_mut(&mut draft.tables.registrations).remove(&row.id);
                draft.counts = true;
            })
        };
        self.submit(server, Box::new(Task::new(run, |_| {})));
    }
}

/// Work whose value is said to somebody once it is committed; nothing is said otherwise.
fn say<T: Send + 'static>(
    way: Way,
    happened: Happened,
    run: impl FnMut(&mut Disk) -> Result<T, super::disk::Fault> + Send + 'static,
    reply: impl FnOnce(T) -> Reply + Send + 'static,
) -> Box<dyn Work<Disk>> {
    Box::new(Task::new(run, move |came| {
        if let Ok(value) = came {
            happened.add(Done::Say(way, reply(value)));
        }
    }))
}

fn parse(bytes: &[u8]) -> Result<Stamp, crate::sim::oracle::Broken> {
    match Stamp::get(bytes) {
        Ok((stamp, used)) if used == bytes.len() => Ok(stamp),
        _ => Err(broken("honest peers", format!("no stamp: {bytes:?}"))),
    }
}

fn digest(arguments: &[u8], nonce: u64) -> Digest {
    journal::digest("object", METHOD, arguments, nonce)
}
