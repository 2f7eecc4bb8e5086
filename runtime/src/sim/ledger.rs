//! Notes which calls were made, which methods ran and what callers were told, and holds it against the promises.
//!
//! The program under test tells it two things: the handler, that it runs; the caller, that it calls. A call has a key
//! that both know, mostly an argument of the method: the ledger trusts no number of the protocol that it judges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::fabric::Fabric;
use super::oracle::{Broken, CallNumber, Counts, Excuses, Oracle, Told, broken};
use super::trace::Event;
use crate::call::Call;
use crate::descriptor::MethodDescriptor;
use crate::driver::lock;
use crate::error::CallError;

/// The truth about the calls of a run. Cheap to clone; a clone belongs into the service.
///
/// What breaks a promise makes the run fail, with its transcript.
#[derive(Clone)]
pub struct Ledger {
    fabric: Arc<Fabric>,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    oracle: Oracle,
    numbers: BTreeMap<u64, CallNumber>,
    broken: Vec<Broken>,
}

impl Ledger {
    pub(super) fn new(fabric: Arc<Fabric>) -> Ledger {
        Ledger { fabric, notes: Arc::default() }
    }

    /// The handler of the call with this key begins. Gives the number of the run, from 1.
    pub fn ran(&self, key: u64) -> u32 {
        let run = {
            let mut notes = lock(&self.notes);
            let number = notes.numbers.get(&key).copied();
            match number.map(|number| (number, notes.oracle.start(number))) {
                Some((_, Ok(run))) => run,
                Some((number, Err(broken))) => {
                    notes.broken.push(broken);
                    notes.oracle.starts(number)
                }
                None => {
                    notes.broken.push(broken("I3", format!("{key:#x} runs and was never called")));
                    1
                }
            }
        };
        self.fabric.note(Event::Ran { key, run });
        run
    }

    /// Makes a call and notes what its caller is told. Dropped before its end, it counts as given up.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call<A: Serialize, T, E>(
        &self,
        key: u64,
        call: Call<A, T, E>,
    ) -> Result<T, CallError<E>> {
        let Some(method) = call.method() else { return call.await };
        self.called(key, method);
        let mut unfinished = Unfinished { ledger: self, key, ended: false };
        let result = call.await;
        unfinished.ended = true;
        self.told(key, method, &result);
        result
    }

    /// How often the method ran for this key.
    #[must_use]
    pub fn runs(&self, key: u64) -> u32 {
        let notes = lock(&self.notes);
        notes.numbers.get(&key).map_or(0, |number| notes.oracle.starts(*number))
    }

    /// How many calls there were and how they ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.notes).oracle.counts()
    }

    /// All faults are over: each call must have ended.
    pub(super) fn finish(&self) {
        let mut notes = lock(&self.notes);
        if let Err(broken) = notes.oracle.finish() {
            let key = notes
                .numbers
                .iter()
                .find(|(_, number)| broken.what.starts_with(&format!("call {number} ")));
            let key = key.map_or(String::new(), |(key, _)| format!(" (its key is {key:#x})"));
            notes.broken.push(Broken { what: broken.what + &key, ..broken });
        }
    }

    /// A promise that was broken, or something else that must not be.
    pub(super) fn complain(&self, what: Broken) {
        lock(&self.notes).broken.push(what);
    }

    /// Everything that was broken so far.
    pub(super) fn broken(&self) -> Vec<Broken> {
        lock(&self.notes).broken.clone()
    }

    fn called(&self, key: u64, method: &MethodDescriptor) {
        let mut notes = lock(&self.notes);
        let number = notes.oracle.call(method.semantics, method.oneway);
        if notes.numbers.insert(key, number).is_some() {
            notes.broken.push(broken("keys", format!("{key:#x} was given to two calls")));
        }
        drop(notes);
        self.fabric.note(Event::Called { key, semantics: method.semantics });
    }

    fn told<T, E>(&self, key: u64, method: &MethodDescriptor, result: &Result<T, CallError<E>>) {
        let told = match result {
            Ok(_) if method.oneway => Told::HandedOver,
            Ok(_) | Err(CallError::Method(_)) => Told::Answer { run: None },
            Err(error) => Told::Failed(error.execution()),
        };
        let words = match result {
            Ok(_) => "answered".to_owned(),
            Err(error) => error.to_string(),
        };
        self.fabric.note(Event::Told { key, told: words });
        let excuses = self.excuses(result);
        let mut notes = lock(&self.notes);
        let Some(number) = notes.numbers.get(&key).copied() else { return };
        if let Err(broken) = notes.oracle.told(number, told, excuses) {
            let what = format!("{} (its key is {key:#x})", broken.what);
            notes.broken.push(Broken { what, ..broken });
        }
    }

    /// What may excuse a failure: what the error says of its cause, and what happened so far in the run, since a crash
    /// or a cut is noticed late.
    fn excuses<T, E>(&self, result: &Result<T, CallError<E>>) -> Excuses {
        let counts = self.fabric.with(|state| state.counts());
        let Err(error) = result else { return Excuses::default() };
        Excuses {
            crash: counts.crashes > 0,
            cut: counts.cuts + counts.half_open + counts.crashes > 0
                || matches!(error, CallError::Link { .. }),
            expiry: matches!(error, CallError::SessionExpired),
            given_up: matches!(
                error,
                CallError::DeadlineExceeded { .. }
                    | CallError::Cancelled { .. }
                    | CallError::Expired(_)
                    | CallError::Closed { .. }
                    // The deadline of a call that found no connection up to then.
                    | CallError::Unreachable { .. }
            ),
            drain: matches!(error, CallError::ShuttingDown(_)),
            refusal: matches!(
                error,
                CallError::NoSuchObject(_)
                    | CallError::NoSuchMethod(_)
                    | CallError::BadArguments(_)
                    | CallError::Busy(_)
                    | CallError::BadAddress(_)
                    | CallError::TooLarge { .. }
                    | CallError::NotEncoded { .. }
                    | CallError::BufferFull
            ),
        }
    }
}

/// A call that has not ended.
struct Unfinished<'a> {
    ledger: &'a Ledger,
    key: u64,
    ended: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.ledger.fabric.note(Event::Told { key: self.key, told: "nobody asks".into() });
        let mut notes = lock(&self.ledger.notes);
        if let Some(number) = notes.numbers.get(&self.key).copied() {
            notes.oracle.let_go(number);
        }
    }
}
