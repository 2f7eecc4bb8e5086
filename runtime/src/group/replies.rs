//! What the members of a group answered: a collection, and a stream of what is still to come.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::Member;
use super::round::Round;
use crate::error::CallError;
use crate::pending::Pending;

/// One entry for each member that was called, in order of arrival.
///
/// After a [`Gather`](super::Gather) was awaited all entries are there. After it was [started](super::Gather::start) they
/// come: take them by [`next`](Replies::next), or as from any stream. An entry that was taken is not in the collection any
/// more. Dropped before it is over, it cancels the calls that have not ended.
pub struct Replies<T, E = Infallible> {
    entries: VecDeque<Reply<T, E>>,
    /// Nothing once it is over.
    round: Option<Box<Begun<T, E>>>,
    outcome: Option<Outcome>,
}

/// A round whose calls have all been sent.
type Begun<T, E> = Round<Pending<T, E>, T, E>;

/// How the call of one member ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reply<T, E = Infallible> {
    /// Whose.
    pub member: Member,
    /// The method's result, or why there is none. [`CallError::Silent`] if it was not waited for.
    pub result: Result<T, CallError<E>>,
    /// Whether it counted: a result, accepted by the filter, of an object that had not answered through another URL.
    pub accepted: bool,
}

/// How a call to a group ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The policy was met.
    Met,
    /// It could not be met any more.
    Unmet(Unmet),
}

/// Why a policy could not be met: how many accepted answers it needed, and how many there were. The entries say what
/// each member answered instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmet {
    /// Accepted answers that were needed.
    pub needed: usize,
    /// Accepted answers that came.
    pub accepted: usize,
    /// Members that were called.
    pub called: usize,
    /// Members that had not answered when it was clear.
    pub open: usize,
}

impl<T, E> Reply<T, E> {
    /// Whether the member said nothing: it had not answered by the deadline, or when the policy was over.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let silent = |error: &CallError<E>| {
            matches!(error, CallError::Silent { .. } | CallError::DeadlineExceeded { .. })
        };
        self.result.as_ref().is_err_and(silent)
    }
}

impl<T, E> Replies<T, E> {
    /// Over, with all its entries.
    pub(super) fn over(entries: VecDeque<Reply<T, E>>, outcome: Outcome) -> Replies<T, E> {
        Replies { entries, round: None, outcome: Some(outcome) }
    }

    /// Under way.
    pub(super) fn begun(mut round: Begun<T, E>) -> Replies<T, E> {
        let entries = std::mem::take(&mut round.entries);
        let mut replies = Replies { entries, round: Some(Box::new(round)), outcome: None };
        // What is decided already needs nobody who waits.
        let _ = replies.poll_more(&mut Context::from_waker(std::task::Waker::noop()));
        replies
    }

    /// The next entry in order of arrival; nothing when it is over and all were taken.
    pub async fn next(&mut self) -> Option<Reply<T, E>> {
        poll_fn(|cx| self.poll_entry(cx)).await
    }

    /// Waits until the policy is met or can no longer be.
    pub async fn finish(mut self) -> Replies<T, E> {
        poll_fn(|cx| if self.poll_more(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        self
    }

    /// How it ended; nothing while it goes on.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether the policy is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.outcome == Some(Outcome::Met)
    }

    /// The replies if the policy was met, else why it was not.
    ///
    /// # Errors
    /// [`Unmet`], if it is over and was not met.
    pub fn require(self) -> Result<Replies<T, E>, Unmet> {
        match self.outcome {
            Some(Outcome::Unmet(unmet)) => Err(unmet),
            _ => Ok(self),
        }
    }

    /// The entries that are there.
    pub fn iter(&self) -> std::collections::vec_deque::Iter<'_, Reply<T, E>> {
        self.entries.iter()
    }

    /// How many entries are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of a member.
    #[must_use]
    pub fn of(&self, member: &Member) -> Option<&Reply<T, E>> {
        self.entries.iter().find(|reply| reply.member == *member)
    }

    /// The results that counted, with their members.
    pub fn accepted(&self) -> impl Iterator<Item = (&Member, &T)> {
        let accepted = self.entries.iter().filter(|reply| reply.accepted);
        accepted.filter_map(|reply| Some((&reply.member, reply.result.as_ref().ok()?)))
    }

    fn poll_entry(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reply<T, E>>> {
        if let Some(reply) = self.entries.pop_front() {
            return Poll::Ready(Some(reply));
        }
        let over = self.poll_more(cx);
        match self.entries.pop_front() {
            Some(reply) => Poll::Ready(Some(reply)),
            None if over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Takes what has come; whether it is over.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(round) = &mut self.round else { return true };
        let polled = round.poll(cx);
        self.entries.append(&mut round.entries);
        let Poll::Ready(outcome) = polled else { return false };
        (self.round, self.outcome) = (None, Some(outcome));
        true
    }
}

impl<T, E> Stream for Replies<T, E> {
    type Item = Reply<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reply<T, E>>> {
        self.poll_entry(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.entries.len(), self.round.is_none().then_some(self.entries.len()))
    }
}

/// Nothing in it is pinned.
impl<T, E> Unpin for Replies<T, E> {}

/// The entries that are there. What has not come yet is cancelled.
impl<T, E> IntoIterator for Replies<T, E> {
    type Item = Reply<T, E>;
    type IntoIter = std::collections::vec_deque::IntoIter<Reply<T, E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a, T, E> IntoIterator for &'a Replies<T, E> {
    type Item = &'a Reply<T, E>;
    type IntoIter = std::collections::vec_deque::Iter<'a, Reply<T, E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug, E: fmt::Debug> fmt::Debug for Replies<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("entries", &self.entries)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unmet { needed, accepted, called, open } = self;
        write!(f, "{needed} accepted answers were needed of {called} members; {accepted} came")?;
        if *open > 0 { write!(f, ", and {open} more could not have been enough") } else { Ok(()) }
    }
}

impl std::error::Error for Unmet {}
