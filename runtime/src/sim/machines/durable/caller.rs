//! The client's side, as a driver does it: what is sent of a saved call, and what an answer leads to.

use std::sync::Arc;

use super::Step;
use super::disk::{Disk, Fault, RequestRow};
use super::messages::{Ask, Body, Reply, Way};
use super::method::{Came, Event as Done};
use super::node::{Node, leaves, listener};
use super::oracle::Told;
use super::world::{Event, World};
use crate::error::FailureCode;
use crate::id::{RegistrationId, Seq};
use crate::protocol::durable::batch::{Failure, Task, Work};
use crate::protocol::durable::inbox::{NotRegistered, Registered};
use crate::protocol::durable::journal::{self, Kept};
use crate::protocol::durable::outbound::{
    Meaning, Parked, Refused, Registration, Sending, Stopped, fence_code,
};
use crate::protocol::durable::rows::{Binding, JournalRows, Outcome, Saved, ServerRow};
use crate::protocol::finished::Finished;
use crate::sim::oracle::broken;
use crate::wire::durable::{Stamp, Word};
use crate::wire::frame::Ranges;

/// A saved call that is driven.
pub(super) struct Active {
    pub(super) nonce: u64,
    pub(super) peer: Arc<str>,
    arguments: Vec<u8>,
    wanted: bool,
    /// Attempts of the program that wait for it.
    pub(super) waiters: Vec<usize>,
    /// It is to be fenced, with this code.
    pub(super) fence: Option<FailureCode>,
    pub(super) ended: Option<Outcome>,
    waits: bool,
}

/// A question that is asked until it is answered.
pub(super) struct Exchange {
    seq: Seq,
    peer: Arc<str>,
    body: Body,
    stamp: Option<Stamp>,
    asked: u32,
}

impl Active {
    pub(super) fn of(row: &RequestRow) -> Active {
        let request = &row.request;
        Active {
            nonce: request.nonce,
            peer: request.peer.clone(),
            arguments: request.arguments.clone(),
            wanted: request.wanted,
            waiters: Vec::new(),
            fence: None,
            ended: None,
            waits: false,
        }
    }
}

impl World {
    /// Does for a call what may be done now.
    pub(super) fn progress(&mut self, node: usize, seq: Seq) -> Step {
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        let Some(active) = life.calls.get_mut(&seq).filter(|active| active.ended.is_none()) else {
            return Ok(());
        };
        let peer = active.peer.clone();
        active.waits = false;
        match life.outbound.sending(seq, &peer, active.nonce) {
            Sending::Send(stamp) => {
                let (mut bytes, arguments) = (Vec::new(), active.arguments.clone());
                stamp.put(&mut bytes);
                let body = match active.fence {
                    None => Body::Call { stamp: bytes, arguments },
                    Some(code) => Body::Fence { stamp: bytes, arguments, code },
                };
                self.check_call(node, &stamp)?;
                self.ask(node, seq, &peer, body, Some(stamp));
            }
            Sending::Register(register) => {
                self.ask(node, seq, &peer, Body::Register(register), None);
            }
            Sending::Bind(row) => self.adopt(node, seq, row),
            Sending::Wait(_) => {
                active.waits = true;
                self.accept_later(node, &peer);
            }
            Sending::Park(why) => self.park(node, seq, why)?,
            Sending::Stop(why) => self.stop(node, why)?,
            Sending::Over => {}
        }
        Ok(())
    }

    fn ask(&mut self, node: usize, seq: Seq, peer: &Arc<str>, body: Body, stamp: Option<Stamp>) {
        self.exchanges += 1;
        let number = self.exchanges;
        if let Some(life) = &mut self.nodes[node].life {
            let exchange = Exchange { seq, peer: peer.clone(), body, stamp, asked: 0 };
            life.exchanges.insert(number, exchange);
            let life = life.number;
            self.resend(node, life, number);
        }
    }

    /// Sends a question, and again until it is answered; below, the same bytes are sent again.
    pub(super) fn resend(&mut self, node: usize, life: u32, number: u64) {
        let sender = self.nodes[node].disk.image.store;
        let Some(alive) = &mut self.nodes[node].life else { return };
        let Some(exchange) = alive.exchanges.get_mut(&number) else { return };
        exchange.asked += 1;
        let (wait, body) = (20_000 << exchange.asked.min(6), exchange.body.clone());
        let peer = exchange.peer.clone();
        self.events.asked_again += u64::from(self.exchange_is_old(node, number));
        if let Some(to) = listener(self, &peer) {
            self.send(Ask { way: Way { node, life, exchange: number }, to, sender, body });
        }
        let wait = wait + self.plan.latency_us * 2 + self.rng.below(10_000);
        self.after(wait, Event::Resend { node, life, exchange: number });
    }

    fn exchange_is_old(&self, node: usize, number: u64) -> bool {
        let life = self.nodes[node].life.as_ref();
        life.and_then(|life| life.exchanges.get(&number)).is_some_and(|exchange| exchange.asked > 1)
    }

    /// An answer arrives, if its question still stands.
    pub(super) fn answered(&mut self, way: Way, reply: Reply) -> Step {
        let Way { node, life: number, exchange } = way;
        let Some(life) = self.nodes[node].life.as_mut().filter(|life| life.number == number) else {
            return Ok(());
        };
        let Some(exchange) = life.exchanges.remove(&exchange) else { return Ok(()) };
        let Exchange { seq, peer, body, stamp, .. } = exchange;
        match reply {
            Reply::Forgotten => Ok(()),
            Reply::Registered(answer) => {
                if let (Body::Register(register), Ok(registered)) = (&body, &answer) {
                    check_registered(register.known.map(|known| (known.0, known.1)), registered)?;
                }
                self.registered(node, seq, &peer, answer)
            }
            Reply::Refused(code) => {
                if let Some(active) = life.calls.get_mut(&seq)
                    && active.fence.is_none()
                {
                    active.fence = fence_code(code);
                }
                self.progress_later(node, seq);
                Ok(())
            }
            Reply::Word(bytes) => {
                let (Some(sent), Ok(word)) = (stamp, Word::get(&bytes)) else {
                    return Err(broken("honest peers", format!("no word: {bytes:?}")));
                };
                if life.calls.get(&seq).is_none_or(|active| active.ended.is_some()) {
                    return Ok(());
                }
                self.events.fences += u64::from(matches!(body, Body::Fence { .. }));
                match life.outbound.on_word(&peer, &sent, &word) {
                    Meaning::Finished(outcome) => self.end(node, seq, outcome),
                    Meaning::Again => {
                        self.progress_later(node, seq);
                        let life = self.nodes[node].lives;
                        self.after(1_000, Event::Forget { node, life, peer });
                        Ok(())
                    }
                    Meaning::Park(why) => self.park(node, seq, why),
                    Meaning::Stop(why) => self.stop(node, why),
                }
            }
        }
    }

    fn registered(
        &mut self,
        node: usize,
        seq: Seq,
        peer: &Arc<str>,
        answer: Result<Registered, NotRegistered>,
    ) -> Step {
        let Node { disk, life: Some(life), .. } = &mut self.nodes[node] else { return Ok(()) };
        let max = answer.as_ref().map_or(0, |registered| registered.max);
        match life.outbound.on_registered(peer, answer) {
            Registration::Adopt(_) if !disk.image.has_given(max) => {
                return Err(broken("I8", format!("the old copy in node {node} goes on")));
            }
            Registration::Adopt(row) => self.adopt(node, seq, row),
            Registration::Again(_) => self.progress_later(node, seq),
            Registration::Park(_) => {
                self.accept_later(node, peer);
                self.progress(node, seq)?;
            }
            Registration::Stop(why) => self.stop(node, why)?,
        }
        Ok(())
    }

    fn adopt(&mut self, node: usize, seq: Seq, row: ServerRow) {
        let noted = row.clone();
        let run = move |db: &mut Disk| journal::adopt(db, &noted);
        let work = self.task(node, run, move |came| Done::Adopted(seq, row, came));
        self.submit(node, work);
    }

    pub(super) fn adopted(&mut self, node: usize, seq: Seq, row: ServerRow, came: Came<Vec<Seq>>) {
        let Some(life) = &mut self.nodes[node].life else { return };
        match came {
            Ok(bound) => {
                life.outbound.adopted(row, &bound);
                let life = life.number;
                self.after(0, Event::Progress { node, life, seq });
            }
            Err(Failure::NotCommitted(_)) => self.progress_later(node, seq),
            Err(Failure::Unknown(_)) => {}
        }
    }

    fn progress_later(&mut self, node: usize, seq: Seq) {
        let at = self.rng.spread(1_000, 50_000);
        let life = self.nodes[node].lives;
        self.after(at, Event::Progress { node, life, seq });
    }

    /// A call has ended: its waiters know, then its journal does.
    fn end(&mut self, node: usize, seq: Seq, outcome: Outcome) -> Step {
        let (store, lives) = (self.nodes[node].disk.image.store, self.nodes[node].lives);
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        let Some(active) = life.calls.get_mut(&seq) else { return Ok(()) };
        active.ended = Some(outcome.clone());
        let (nonce, waiters) = (active.nonce, std::mem::take(&mut active.waiters));
        life.outbound.finished(seq);
        self.trace.line(self.now, || format!("node {node}: {nonce:x} ends as {outcome:?}"));
        if let Some(told) = Told::of(&outcome) {
            self.oracle.told(nonce, told, outcome == Outcome::Cancelled)?;
            for &waiter in &waiters {
                self.tell(node, store, waiter, told)?;
            }
        }
        self.settle(node, lives, seq, !waiters.is_empty());
        Ok(())
    }

    /// Notes the end of a call in the journal.
    pub(super) fn settle(&mut self, node: usize, number: u32, seq: Seq, taken: bool) {
        let Some(life) = self.nodes[node].life.as_mut().filter(|life| life.number == number) else {
            return;
        };
        let Some(active) = life.calls.get_mut(&seq) else { return };
        let Some(outcome) = active.ended.clone() else { return };
        let (peer, seen) = (active.peer.clone(), life.outbound.seen(&active.peer));
        let run = move |db: &mut Disk| {
            let binding = db.request(seq)?.and_then(|saved| saved.binding);
            journal::settle(db, seq, &outcome, taken)?;
            match binding {
                Some(Binding { store, .. }) => journal::saw(db, &peer, store, seen),
                None => Ok(()),
            }
        };
        let work = self.task(node, run, move |came| Done::Settled(seq, came));
        if self.rng.chance(700) { self.submit_later(node, work) } else { self.submit(node, work) }
    }

    pub(super) fn settled(&mut self, node: usize, seq: Seq, came: &Came<()>) {
        let lives = self.nodes[node].lives;
        let Some(life) = &mut self.nodes[node].life else { return };
        match came {
            Ok(()) => {
                life.outbound.settled(seq);
                let Some(active) = life.calls.remove(&seq) else { return };
                if !active.ended.as_ref().is_none_or(|ended| leaves(ended, active.wanted)) {
                    let at = self.rng.spread(1_000, 100_000);
                    self.after(at, Event::Recover { node, life: lives, seq });
                }
                if self.rng.chance(300) {
                    self.after(1_000, Event::Forget { node, life: lives, peer: active.peer });
                }
            }
            Err(Failure::NotCommitted(_)) => {
                let at = self.rng.spread(1_000, 30_000);
                self.after(at, Event::Settle { node, life: lives, seq });
            }
            Err(Failure::Unknown(_)) => {}
        }
    }

    fn park(&mut self, node: usize, seq: Seq, why: Parked) -> Step {
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        let Some(active) = life.calls.get(&seq) else { return Ok(()) };
        let (nonce, peer) = (active.nonce, active.peer.clone());
        self.trace.line(self.now, || format!("node {node}: {nonce:x} is parked: {why}"));
        self.trace.note(self.now, 5, nonce);
        self.oracle.parked(nonce, why)?;
        self.accept_later(node, &peer);
        self.end(node, seq, Outcome::Parked { reason: why.to_string().into() })
    }

    fn stop(&mut self, node: usize, why: Stopped) -> Step {
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        if !life.stopped {
            life.stopped = true;
            for active in life.calls.values() {
                self.oracle.given_up(active.nonce);
            }
            self.trace.line(self.now, || format!("node {node} stops: {why}"));
            self.oracle.stopped(node, why)?;
        }
        Ok(())
    }

    /// The program hears that a server has another store, and will say that it may.
    fn accept_later(&mut self, node: usize, peer: &Arc<str>) {
        let Some(life) = &self.nodes[node].life else { return };
        if let Err(Refused::Parked(_)) = life.outbound.refused(peer) {
            let (at, life) = (self.rng.spread(1_000, 500_000), life.number);
            self.after(at, Event::Accept { node, life, peer: peer.clone() });
        }
    }

    pub(super) fn accept(&mut self, node: usize, peer: Arc<str>) {
        let Some(life) = &self.nodes[node].life else { return };
        if life.outbound.refused(&peer).is_ok() {
            return;
        }
        let address = peer.clone();
        let run = move |db: &mut Disk| db.remove_server(&address);
        let work = self.task(node, run, move |came| Done::Accepted(peer, came));
        self.submit(node, work);
    }

    pub(super) fn accepted(&mut self, node: usize, peer: &Arc<str>, done: bool) {
        if !done {
            return self.accept_later(node, peer);
        }
        self.events.accepted += 1;
        let Some(life) = &mut self.nodes[node].life else { return };
        life.outbound.accept(peer);
        let waiting = life.calls.iter().filter(|(_, active)| active.waits && active.peer == *peer);
        let waiting: Vec<Seq> = waiting.map(|(seq, _)| *seq).collect();
        for seq in waiting {
            self.progress_later(node, seq);
        }
    }

    pub(super) fn cancelled(
        &mut self,
        node: usize,
        seq: Seq,
        came: Came<Result<(), Kept>>,
    ) -> Step {
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        match came {
            Ok(Ok(())) => {
                life.outbound.settled(seq);
                self.events.cancelled_unsent += 1;
                match life.calls.remove(&seq) {
                    Some(active) => self.oracle.told(active.nonce, Told::Never, true),
                    None => Ok(()),
                }
            }
            Ok(Err(Kept::MayHaveBeenSent)) => match life.calls.get_mut(&seq) {
                Some(active) if active.fence.is_none() => {
                    active.fence = Some(FailureCode::Cancelled);
                    self.progress(node, seq)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The program looks at the result of a call that nobody waited for, and lets it go.
    pub(super) fn recover(&mut self, node: usize, seq: Seq) {
        let run = move |db: &mut Disk| {
            let saved = db.request(seq)?;
            journal::taken(db, seq)?;
            Ok(saved)
        };
        let work = self.task(node, run, move |came| Done::Recovered(seq, came));
        self.submit(node, work);
    }

    pub(super) fn recovered(&mut self, node: usize, seq: Seq, came: Came<Option<Saved>>) -> Step {
        match came {
            Ok(Some(Saved { request, outcome: Some(outcome), .. })) => {
                self.events.recovered += 1;
                match Told::of(&outcome) {
                    Some(told) => self.oracle.told(request.nonce, told, true),
                    None => Ok(()),
                }
            }
            Err(Failure::NotCommitted(_)) => {
                let (at, life) = (self.rng.spread(1_000, 50_000), self.nodes[node].lives);
                self.after(at, Event::Recover { node, life, seq });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Tells a server what it may forget.
    pub(super) fn forget(&mut self, node: usize, peer: &Arc<str>) -> Step {
        let Some(life) = &self.nodes[node].life else { return Ok(()) };
        if life.stopped {
            return Ok(());
        }
        if let Some((stamp, above)) = life.outbound.forgetting(peer) {
            self.check_finished(node, &stamp, &above)?;
            self.events.held_up += u64::from(!above.is_empty());
            let mut bytes = Vec::new();
            stamp.put(&mut bytes);
            self.ask(node, 0, peer, Body::Forget { stamp: bytes, above }, None);
        } else if let Some(register) = life.outbound.registering(peer) {
            self.ask(node, 0, peer, Body::Register(register), None);
        }
        Ok(())
    }

    /// I7: what is told to be finished is not unfinished on the disk.
    fn check_finished(&self, node: usize, stamp: &Stamp, above: &Ranges) -> Step {
        let Stamp { store, registration, floor, .. } = *stamp;
        let bound = Binding { store, registration };
        let finished = Finished::of(floor, above);
        let image = &self.nodes[node].disk.image;
        let mut told = image.unfinished().filter(|(seq, _)| finished.contains(*seq));
        match told.find(|(_, row)| row.binding.is_none_or(|binding| binding == bound)) {
            None => Ok(()),
            Some((seq, _)) => Err(broken(
                "I7",
                format!("node {node} tells {finished:x?}, and {seq:x} is unfinished"),
            )),
        }
    }

    /// What is sent is saved, bound to where it goes, and its registration is noted.
    fn check_call(&self, node: usize, stamp: &Stamp) -> Step {
        self.check_finished(node, stamp, &Ranges::new())?;
        let image = &self.nodes[node].disk.image;
        let Stamp { store, registration, seq, nonce, .. } = *stamp;
        let bound = Binding { store, registration };
        let row = image.requests.get(&seq);
        if row.is_none_or(|row| row.request.nonce != nonce || row.binding != Some(bound)) {
            return Err(broken("I7", format!("{seq:x} is sent, and not saved so: {row:?}")));
        }
        Ok(())
    }

    pub(super) fn task<T: Send + 'static>(
        &self,
        node: usize,
        run: impl FnMut(&mut Disk) -> Result<T, Fault> + Send + 'static,
        done: impl FnOnce(Came<T>) -> Done + Send + 'static,
    ) -> Box<dyn Work<Disk>> {
        let happened = self.nodes[node].life.as_ref().map(|life| life.happened.clone());
        Box::new(Task::new(run, move |came| {
            if let Some(happened) = happened {
                happened.add(done(came));
            }
        }))
    }
}

/// I8: whoever had a registration is not given another.
fn check_registered(known: Option<(u128, u64)>, registered: &Registered) -> Step {
    let given = (registered.store, registered.registration);
    match known {
        Some(known) if known != given => {
            let registration = RegistrationId(registered.registration);
            Err(broken("I8", format!("{registration:?} is given to a client that had another")))
        }
        _ => Ok(()),
    }
}
