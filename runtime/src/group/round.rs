//! The calls of all members under way: polls those that were woken, and asks the votes whether it is over.
//!
//! A round ends once. What then has no answer is left to itself or cancelled, and gets an entry that says so.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::call::Shared;
use super::replies::{Outcome, Reply, Unmet};
use super::wakes::Wakes;
use super::{Member, Present};
use crate::call::{Call, Remote};
use crate::error::CallError;
use crate::id::Boot;
use crate::pending::Pending;
use crate::protocol::group::{Ended, Needed, Verdict, Votes};
use crate::semantics::Execution;

/// Which answers count.
pub(super) type Accept<T> = Arc<dyn Fn(&Member, &T) -> bool + Send + Sync>;

/// What becomes of the calls that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    GoesOn,
    Cancelled,
}

/// What tells the objects behind the members apart: two URLs may lead to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Voter {
    /// A name at a run of a server.
    Object(Boot, Arc<str>),
    /// Nothing came back that says where it came from: a oneway call.
    Member(usize),
}

/// A member's call, whatever its stage.
pub(super) trait Leave<T, E>: Future<Output = Result<T, CallError<E>>> + Unpin {
    /// Stops waiting; what is known then.
    fn leave(self, rest: Rest) -> Execution;

    /// Whether it goes on if nobody waits.
    fn has_left(&self, cx: &mut Context<'_>) -> bool;
}

/// The calls of all members.
pub(super) struct Round<F, T, E> {
    slots: Vec<Slot<F>>,
    wakes: Arc<Wakes>,
    votes: Votes<Voter>,
    accept: Option<Accept<T>>,
    rest: Rest,
    /// In order of arrival.
    pub(super) entries: VecDeque<Reply<T, E>>,
}

struct Slot<F> {
    member: Member,
    remote: Remote,
    waker: Waker,
    /// Nothing once it has ended.
    call: Option<F>,
    /// Whether it was ever polled: nothing happens before.
    begun: bool,
}

impl<F: Leave<T, E>, T, E> Round<F, T, E> {
    /// None of the calls has begun.
    pub(super) fn new(
        needed: Needed,
        calls: Vec<(Present, F)>,
        accept: Option<Accept<T>>,
        rest: Rest,
    ) -> Round<F, T, E> {
        let wakes = Wakes::new(calls.len());
        let votes = Votes::new(needed, calls.len());
        let slot = |(number, (Present { member, remote, .. }, call)): (usize, (Present, F))| {
            let waker = wakes.waker(number);
            Slot { member, remote, waker, call: Some(call), begun: false }
        };
        let slots = calls.into_iter().enumerate().map(slot).collect();
        Round { slots, wakes, votes, accept, rest, entries: VecDeque::new() }
    }

    /// Ready when it is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.wakes.task(cx.waker());
        loop {
            if let Some(outcome) = self.over() {
                return Poll::Ready(outcome);
            }
            let Some(number) = self.wakes.next() else { return Poll::Pending };
            self.poll_one(number);
        }
    }

    /// Ready when it is over, or each call has ended or is where it goes on by itself.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        self.wakes.task(cx.waker());
        loop {
            if let Some(outcome) = self.over() {
                return Poll::Ready(Some(outcome));
            }
            if self.all_left() {
                return Poll::Ready(None);
            }
            let Some(number) = self.wakes.next() else { return Poll::Pending };
            self.poll_one(number);
        }
    }

    /// Nobody can wait any longer: what has not ended has failed.
    pub(super) fn abandon(mut self) -> (VecDeque<Reply<T, E>>, Outcome) {
        for number in 0..self.slots.len() {
            if let Some(execution) = self.leave_one(number) {
                self.end(number, Err(CallError::Silent { execution }));
            }
        }
        let outcome = self.outcome().expect("all members have ended");
        (self.entries, outcome)
    }

    /// The same round with calls of another kind. Each is polled again.
    pub(super) fn map<G: Leave<T, E>>(
        mut self,
        mut change: impl FnMut(F) -> Result<G, CallError<E>>,
    ) -> Round<G, T, E> {
        let mut slots = Vec::with_capacity(self.slots.len());
        let mut ended = Vec::new();
        for (number, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            let Slot { member, remote, waker, call, begun } = slot;
            let call = match call.map(&mut change) {
                None => None,
                Some(Ok(call)) => Some(call),
                Some(Err(error)) => {
                    ended.push((number, error));
                    None
                }
            };
            slots.push(Slot { member, remote, waker, call, begun });
        }
        let Round { wakes, votes, accept, rest, entries, .. } = self;
        wakes.wake_all();
        let mut round = Round { slots, wakes, votes, accept, rest, entries };
        for (number, error) in ended {
            round.end(number, Err(error));
        }
        round
    }

    /// How it ended, if it has; the calls that have not are left then.
    fn over(&mut self) -> Option<Outcome> {
        let outcome = self.outcome()?;
        if self.votes.waits_for_nobody() && !self.all_left() {
            return None;
        }
        for number in 0..self.slots.len() {
            let Some(execution) = self.leave_one(number) else { continue };
            let member = self.slots[number].member.clone();
            let result = Err(CallError::Silent { execution });
            self.entries.push_back(Reply { member, result, accepted: false });
        }
        Some(outcome)
    }

    /// Whether each call has ended or goes on by itself.
    fn all_left(&self) -> bool {
        self.slots.iter().all(|slot| {
            let mut cx = Context::from_waker(&slot.waker);
            slot.call.as_ref().is_none_or(|call| call.has_left(&mut cx))
        })
    }

    /// What the votes say.
    fn outcome(&self) -> Option<Outcome> {
        let verdict = self.votes.verdict()?;
        Some(match verdict {
            Verdict::Met => Outcome::Met,
            Verdict::Unmet => Outcome::Unmet(Unmet {
                needed: self.votes.needed(),
                accepted: self.votes.accepted(),
                called: self.votes.called(),
                open: self.votes.open(),
            }),
        })
    }

    fn poll_one(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let Some(call) = &mut slot.call else { return };
        slot.begun = true;
        let polled = Pin::new(call).poll(&mut Context::from_waker(&slot.waker));
        if let Poll::Ready(result) = polled {
            slot.call = None;
            self.end(number, result);
        }
    }

    /// Notes how the call of a member ended.
    fn end(&mut self, number: usize, result: Result<T, CallError<E>>) {
        let slot = &self.slots[number];
        let counts = result.as_ref().is_ok_and(|value| {
            let accepts = |accept: &Accept<T>| accept(&slot.member, value);
            self.accept.as_ref().is_none_or(accepts) || cfg_canary!("filters_are_not_asked")
        });
        let counts = counts || cfg_canary!("failures_are_accepted");
        let ended = if counts { Ended::Accepted(slot.voter(number)) } else { Ended::Failed };
        let accepted = self.votes.end(number, ended);
        self.entries.push_back(Reply { member: slot.member.clone(), result, accepted });
    }

    /// Stops waiting for a member, if its call has not ended; what is known of it then.
    fn leave_one(&mut self, number: usize) -> Option<Execution> {
        let slot = &mut self.slots[number];
        let call = slot.call.take()?;
        if cfg_canary!("silent_members_have_no_entry") {
            let _ = call.leave(self.rest);
            return None;
        }
        if cfg_canary!("silent_members_did_not_run") {
            let _ = call.leave(self.rest);
            return Some(Execution::NotExecuted);
        }
        Some(if slot.begun { call.leave(self.rest) } else { Execution::NotExecuted })
    }
}

impl<A, T, E> Round<Call<Shared<A>, T, E>, T, E> {
    /// How long a parked thread waits for the calls that have not begun, each of which ends at its own deadline: the
    /// runtime that sees to that may have stopped. For ever, if one of them may take so long.
    pub(super) fn longest(&self) -> Option<Duration> {
        let mut limits = self.slots.iter().filter_map(|slot| slot.call.as_ref().map(Call::longest));
        limits.try_fold(Duration::ZERO, |all, one| Some(all.max(one?)))
    }
}

impl<F> Slot<F> {
    fn voter(&self, number: usize) -> Voter {
        let reached = self.remote.reached().filter(|_| !cfg_canary!("aliases_vote_twice"));
        match reached {
            Some((boot, object)) => Voter::Object(boot, object),
            None => Voter::Member(number),
        }
    }
}

impl<A: serde::Serialize, T, E> Leave<T, E> for Call<Shared<A>, T, E> {
    fn leave(self, rest: Rest) -> Execution {
        match self.try_start() {
            Ok(pending) => pending.leave(rest),
            // It still waited for room.
            Err(_) => Execution::NotExecuted,
        }
    }

    fn has_left(&self, cx: &mut Context<'_>) -> bool {
        self.is_left(cx)
    }
}

impl<T, E> Leave<T, E> for Pending<T, E> {
    fn leave(self, rest: Rest) -> Execution {
        match rest {
            Rest::GoesOn => self.detach(),
            Rest::Cancelled => drop(self),
        }
        Execution::Unknown
    }

    fn has_left(&self, _cx: &mut Context<'_>) -> bool {
        true
    }
}
