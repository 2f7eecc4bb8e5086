//! Brings one saved call to its server, again and again, until it is answered.
//!
//! To the link it is an at-least-once call without a deadline, whose arguments begin with a stamp; everything that is
//! not an answer of the server's store decides nothing.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::futures::OwnedNotified;

use super::desk;
use super::journal::Journal;
use super::{in_store, reason};
use crate::descriptor::Descriptor;
use crate::dispatch::{Interface, Status};
use crate::driver::link::{Extras, Link, NewCall, StartError, Waiting};
use crate::driver::lock;
use crate::error::{CallError, FailureCode};
use crate::id::{Handle, Seq};
use crate::protocol::client::Expected;
use crate::protocol::durable::inbox::{NotRegistered, Register, Registered};
use crate::protocol::durable::journal as rows;
use crate::protocol::durable::outbound::{Meaning, Parked, Registration, Sending, fence_code};
use crate::protocol::durable::rows::{Outcome, Request, ServerRow};
use crate::semantics::Semantics;
use crate::wire::durable::{Stamp, Word};
use crate::wire::payload;

/// Carries a call to its end, or to that of the node.
pub(super) async fn carry(journal: Arc<Journal>, seq: Seq, request: Arc<Request>) {
    let carrier = Carrier::new(journal, seq, request);
    let journal = carrier.journal.clone();
    let _place = Place { journal, peer: carrier.request.peer.clone() };
    let mut failures = 0;
    loop {
        let Some(changed) = carrier.changed() else { return };
        match carrier.step(Errand::Call, &mut failures).await {
            Step::Over => return,
            Step::Again(pause) => wait(pause, changed).await,
        }
    }
}

/// Gives a call up: it ends as cancelled if it never ran.
pub(super) async fn cancel(journal: Arc<Journal>, seq: Seq, request: Arc<Request>) {
    let carrier = Carrier::new(journal, seq, request);
    let mut failures = 0;
    loop {
        let Some(changed) = carrier.changed() else { return };
        match carrier.journal.cancel_unsent(seq).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(failure) => {
                tracing::warn!(reason = reason(&failure), "a call could not be cancelled yet");
            }
        }
        let fence = Errand::Fence(FailureCode::Cancelled, "its caller cancelled it");
        match carrier.step(fence, &mut failures).await {
            Step::Over => return,
            Step::Again(pause) => wait(pause, changed).await,
        }
    }
}

/// Tells a server what it may forget, once nothing else has told it for a while.
pub(super) async fn forget(journal: Arc<Journal>, peer: Arc<str>) {
    tokio::time::sleep(FORGET_AFTER).await;
    let told = {
        let mut state = lock(&journal.state);
        let Some(at) = state.peers.get_mut(&peer) else { return };
        at.forgetting = false;
        if state.closed.is_some() { None } else { state.outbound.forgetting(&peer) }
    };
    let (Some((stamp, above)), Ok(link)) = (told, journal.link(&peer)) else { return };
    let mut bytes = Vec::new();
    stamp.put(&mut bytes);
    let told = ask(&link, "forget", &(payload::AsBytes(bytes.as_slice()), &above)).await;
    // The floor is said again with the next call; what is above it is not.
    if !above.is_empty() && !matches!(told, Ok((Status::Ok, _)) | Err(CallError::Closed { .. })) {
        journal.forget_at(&peer);
    }
}

/// A call on its way.
struct Carrier {
    journal: Arc<Journal>,
    seq: Seq,
    request: Arc<Request>,
}

/// What is wanted of the server.
#[derive(Clone, Copy)]
enum Errand {
    /// That it run the call.
    Call,
    /// That it never run the call, unless it has.
    Fence(FailureCode, &'static str),
}

/// How far one attempt has come.
enum Step {
    Over,
    /// Try again after so long, or when something has changed.
    Again(Duration),
}

/// One of the calls that are carried to a server at a time.
struct Place {
    journal: Arc<Journal>,
    peer: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(at) = lock(&self.journal.state).peers.get_mut(&self.peer) {
            at.carried -= 1;
        }
        self.journal.pump(&self.peer);
    }
}

impl Carrier {
    fn new(journal: Arc<Journal>, seq: Seq, request: Arc<Request>) -> Carrier {
        Carrier { journal, seq, request }
    }

    /// One attempt.
    async fn step(&self, errand: Errand, failures: &mut u32) -> Step {
        let sending = {
            let mut state = lock(&self.journal.state);
            if state.closed.is_some() {
                return Step::Over;
            }
            state.outbound.sending(self.seq, &self.request.peer, self.request.nonce)
        };
        let done = match sending {
            Sending::Over => return Step::Over,
            Sending::Send(stamp) => self.send(&stamp, errand).await,
            Sending::Register(wanted) => self.register(wanted).await,
            Sending::Bind(row) => self.adopt(row).await,
            Sending::Wait(_) => return Step::Again(Duration::MAX),
            Sending::Park(parked) => return self.park(parked),
            Sending::Stop(stopped) => {
                self.journal.stop(stopped);
                return Step::Over;
            }
        };
        match done {
            Progress::Over => Step::Over,
            Progress::On => {
                *failures = 0;
                Step::Again(Duration::ZERO)
            }
            Progress::Failed => {
                *failures = failures.saturating_add(1);
                Step::Again(self.pause(*failures))
            }
        }
    }

    async fn send(&self, stamp: &Stamp, errand: Errand) -> Progress {
        let Ok(link) = self.journal.link(&self.request.peer) else { return Progress::Over };
        let answered = match errand {
            Errand::Call => match self.call(&link, stamp).await {
                Err(error) => match refused_for_good(&error) {
                    // What the session refused is fenced before it is believed.
                    Some(code) => self.fence(&link, stamp, code, &error.to_string()).await,
                    None => Err(error),
                },
                answered => answered,
            },
            Errand::Fence(code, text) => self.fence(&link, stamp, code, text).await,
        };
        let body = match answered {
            Ok((Status::Ok, body)) => body,
            Ok(_) => return Progress::Failed,
            Err(CallError::Closed { .. }) => return Progress::Over,
            Err(error) => {
                tracing::debug!(seq = self.seq, %error, "a saved call has no answer yet");
                return Progress::Failed;
            }
        };
        let Ok(word) = Word::get(&body) else { return Progress::Failed };
        let meaning = lock(&self.journal.state).outbound.on_word(&self.request.peer, stamp, &word);
        match meaning {
            Meaning::Finished(outcome) => {
                let told = match word {
                    Word::Answer { commit, .. } => Some((stamp.store, commit)),
                    _ => None,
                };
                self.journal.finish(self.seq, outcome, told);
                Progress::Over
            }
            Meaning::Again => {
                if let Word::Again { text } = word {
                    tracing::warn!(
                        seq = self.seq,
                        text,
                        "the server does not decide about a call yet"
                    );
                }
                // It may wait to be told what it may forget.
                self.journal.forget_at(&self.request.peer);
                Progress::Failed
            }
            Meaning::Park(parked) => {
                self.park(parked);
                Progress::Over
            }
            Meaning::Stop(stopped) => {
                self.journal.stop(stopped);
                Progress::Over
            }
        }
    }

    /// The call itself.
    async fn call(&self, link: &Link, stamp: &Stamp) -> Result<(Status, Vec<u8>), CallError> {
        let Request { object, interface, method, method_name, arguments, .. } = &*self.request;
        let expected = Expected::Saved {
            interface: interface.clone(),
            method: *method,
            name: method_name.clone(),
        };
        let object = link.borrow(object, expected)?;
        let mut bytes = Vec::with_capacity(arguments.len() + STAMP);
        stamp.put(&mut bytes);
        bytes.extend_from_slice(arguments);
        exchange(link, object.handle(), 0, &bytes, None).await
    }

    /// Has the call fenced; the answer is a word.
    async fn fence(
        &self,
        link: &Link,
        stamp: &Stamp,
        code: FailureCode,
        text: &str,
    ) -> Result<(Status, Vec<u8>), CallError> {
        let Request { object, method, arguments, nonce, .. } = &*self.request;
        let mut named = Vec::new();
        stamp.put(&mut named);
        named.extend_from_slice(&rows::digest(object, *method, arguments, *nonce));
        let named = payload::AsBytes(named.as_slice());
        let (status, body) = ask(link, "fence", &(named, code as u8, text)).await?;
        let word = payload::decode_bytes(&body);
        let word =
            word.map_err(|error| CallError::BadReply { reason: error.to_string().into() })?;
        Ok((status, word))
    }

    /// Registers at the server, unless somebody does already.
    async fn register(&self, wanted: Register) -> Progress {
        let peer = &self.request.peer;
        let changed = {
            let mut state = lock(&self.journal.state);
            let at = state.peers.entry(peer.clone()).or_default();
            let changed = at.changed.clone().notified_owned();
            if !std::mem::replace(&mut at.registering, true) { None } else { Some(changed) }
        };
        if let Some(changed) = changed {
            changed.await;
            return Progress::On;
        }
        let registering = Registering { journal: &self.journal, peer };
        let done = match self.ask_to_register(wanted).await {
            Ok(answer) => {
                let registration = lock(&self.journal.state).outbound.on_registered(peer, answer);
                match registration {
                    Registration::Adopt(row) => self.adopt(row).await,
                    Registration::Again(text) => {
                        tracing::warn!(%peer, text, "the server does not register this client yet");
                        Progress::Failed
                    }
                    // The next attempt sees what it means for this call.
                    Registration::Park(parked) => {
                        tracing::error!(%peer, %parked, "the server's store is not the one before");
                        Progress::On
                    }
                    Registration::Stop(_) => Progress::On,
                }
            }
            Err(CallError::Closed { .. }) => Progress::Over,
            Err(error) => {
                tracing::debug!(%peer, %error, "not registered yet");
                Progress::Failed
            }
        };
        drop(registering);
        done
    }

    async fn ask_to_register(
        &self,
        wanted: Register,
    ) -> Result<Result<Registered, NotRegistered>, CallError> {
        let link = self.journal.link(&self.request.peer)?;
        let (status, body) = ask(&link, "register", &(wanted,)).await?;
        let answer = match status {
            Status::Ok => payload::decode(&body).map(Ok),
            _ => payload::decode(&body).map(Err),
        };
        answer.map_err(|error| CallError::BadReply { reason: error.to_string().into() })
    }

    /// Makes a registration, and the binding of this call to it, durable.
    async fn adopt(&self, row: ServerRow) -> Progress {
        let adopting = row.clone();
        let adopted = in_store(&self.journal.store, move |db| rows::adopt(db, &adopting)).await;
        match adopted {
            Ok(bound) => {
                lock(&self.journal.state).outbound.adopted(row, &bound);
                Progress::On
            }
            // Nothing that is not bound is sent any more, until the store is opened again.
            Err(failure) if self.journal.store.is_stopped() => {
                tracing::error!(reason = reason(&failure), "a registration could not be saved");
                self.journal.interrupt(self.seq);
                Progress::Over
            }
            Err(failure) => {
                tracing::warn!(reason = reason(&failure), "a registration could not be saved yet");
                Progress::Failed
            }
        }
    }

    fn park(&self, parked: Parked) -> Step {
        tracing::error!(seq = self.seq, %parked, "a saved call is not sent again");
        let outcome = Outcome::Parked { reason: parked.to_string().into() };
        self.journal.finish(self.seq, outcome, None);
        Step::Over
    }

    /// Hears of every change from now on; nothing if the journal is closed.
    fn changed(&self) -> Option<OwnedNotified> {
        let mut state = lock(&self.journal.state);
        if state.closed.is_some() {
            return None;
        }
        let at = state.peers.entry(self.request.peer.clone()).or_default();
        Some(at.changed.clone().notified_owned())
    }

    /// Doubled with each failure, and drawn below that, so that many do not come at once.
    fn pause(&self, failures: u32) -> Duration {
        let limits = &self.journal.limits;
        let doubled = limits.reconnect_min.saturating_mul(1 << failures.min(MOST_DOUBLINGS));
        let longest = doubled.min(limits.reconnect_max);
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).max(1);
        limits.reconnect_min.min(longest)
            + Duration::from_nanos(self.journal.entropy.next() % nanos)
    }
}

/// Waits for so long, or until something has changed.
async fn wait(pause: Duration, changed: OwnedNotified) {
    if !pause.is_zero() {
        let _ = tokio::time::timeout(pause, changed).await;
    }
}

/// What an attempt came to.
enum Progress {
    Over,
    /// The next one comes further.
    On,
    Failed,
}

/// The one that registers at a server; wakes the others when it is done.
struct Registering<'a> {
    journal: &'a Journal,
    peer: &'a Arc<str>,
}

impl Drop for Registering<'_> {
    fn drop(&mut self) {
        if let Some(at) = lock(&self.journal.state).peers.get_mut(self.peer) {
            at.registering = false;
            at.changed.notify_waiters();
        }
    }
}

/// Calls a method of the server's store.
async fn ask(
    link: &Link,
    method: &str,
    arguments: &impl Serialize,
) -> Result<(Status, Vec<u8>), CallError> {
    const STORE: &Descriptor = <dyn desk::RemoteStore as Interface>::DESCRIPTOR;
    let store = link.borrow(&desk::NAME.into(), STORE)?;
    let position = STORE.methods.iter().position(|known| known.name == method);
    let mut bytes = Vec::new();
    payload::encode(arguments, &mut bytes)
        .map_err(|error| CallError::NotEncoded { reason: error.to_string().into() })?;
    let position = position.map_or(u32::MAX, |position| position as u32);
    exchange(link, store.handle(), position, &bytes, Some(ASKED)).await
}

/// Makes an at-least-once call and waits for its answer.
async fn exchange(
    link: &Link,
    handle: Handle,
    method: u32,
    arguments: &[u8],
    timeout: Option<Duration>,
) -> Result<(Status, Vec<u8>), CallError> {
    let semantics = Semantics::AtLeastOnce;
    let call = NewCall {
        handle,
        method,
        semantics,
        oneway: false,
        passes: false,
        timeout,
        arguments,
        large: None,
    };
    let mut queued = Queued { link, waiting: Waiting::default() };
    let mut first = true;
    let key = loop {
        let waiting = (!std::mem::take(&mut first)).then_some(&mut queued.waiting);
        match link.try_start(&call, waiting, None) {
            Ok(key) => break key,
            Err(StartError::Failed(error)) => return Err(error),
            Err(StartError::Full) => {
                poll_fn(|cx| link.poll_capacity(arguments.len(), &mut queued.waiting, cx)).await;
            }
        }
    };
    let (mut body, mut extras) = (Vec::new(), Extras::default());
    let status = poll_fn(|cx| link.poll_answer(key, cx, &mut body, &mut extras)).await?;
    Ok((status, extras.large.map_or(body, Vec::from)))
}

/// A place among those who wait for room, given back with it.
struct Queued<'a> {
    link: &'a Link,
    waiting: Waiting,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.link.forget_waiting(&mut self.waiting);
    }
}

/// The code under which a call is fenced that the server's session will never take.
fn refused_for_good(error: &CallError) -> Option<FailureCode> {
    let code = match error {
        CallError::NoSuchMethod(_) => FailureCode::NoSuchMethod,
        CallError::BadArguments(_) => FailureCode::BadArguments,
        CallError::TooLarge { .. } => FailureCode::TooLarge,
        // It ran, in this attempt, and its answer does not pass: it would not the next time.
        _ => return None,
    };
    fence_code(code)
}

/// Bytes of a stamp, at most.
const STAMP: usize = 64;
/// How long the server's store may take to answer what is asked beside calls.
const ASKED: Duration = Duration::from_secs(30);
/// How long a client waits for a call that could tell what may be forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(1);
/// How often a pause is doubled.
const MOST_DOUBLINGS: u32 = 16;
