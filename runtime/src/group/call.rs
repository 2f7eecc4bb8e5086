//! One call to a group before it is over: which members, which answers count, how many are needed.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::multicast::bundle;
use super::replies::Replies;
use super::round::{Accept, Rest, Round};
use super::{Member, Members, Present};
use crate::blocking::{block_on, in_async_task};
use crate::call::{Call, Remote, with_buffer};
use crate::driver::bundle::Multicast;
use crate::error::CallError;
use crate::private::MethodFailure;
use crate::protocol::group::Needed;
use crate::semantics::{Execution, Semantics};
use crate::wire::payload::{self, DecodeError};

/// A method called at all members of a group: say how many answers are needed, then await it.
///
/// ```no_run
/// # use farcall::{CallError, Unmet, remote};
/// # #[remote]
/// # trait Account { async fn balance(&self) -> u64; }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let urls = ["tcp://10.0.0.1:7400/desk", "udp://10.0.0.2:7400/desk", "tcp://10.0.0.3:7400/desk"];
/// let desks: AccountGroup = farcall::group(urls).await?;
/// for reply in desks.balance().all().await {
///     match reply.result {
///         Ok(cents) => println!("{}: {cents}", reply.member),
///         Err(error) => println!("{}: {error}", reply.member),
///     }
/// }
/// // As soon as two of three have answered; an error if that cannot be.
/// let replies = desks.balance().majority().await.require()?;
/// println!("{}", replies.accepted().map(|(_, cents)| cents).max().unwrap_or(&0));
/// # Ok(())
/// # }
/// ```
///
/// Each member is called under the method's own semantics and deadline: at-most-once means that *each* member runs it
/// once or never. Nothing holds for the group as a whole: some members may have run the call and others not, and two
/// callers' calls may reach the members in different orders.
///
/// | policy | is met by | then |
/// |---|---|---|
/// | [`all`](GroupCall::all) | an accepted answer of every member | it waits for each of them in any case |
/// | [`first`](GroupCall::first), [`majority`](GroupCall::majority), [`quorum`](GroupCall::quorum) | so many accepted answers | the others are not waited for |
/// | [`until`](GroupCall::until) | anything | it waits for each, until then |
/// | [`none`](GroupCall::none) | nothing | it waits until the calls are sent |
///
/// A number of answers that can no longer be reached ends the wait at once; `all` waits for each member even then, and is met
/// by a group without members. An answer is accepted if it is a result (no error, not the
/// method's own either), if [`accept`](GroupCall::accept) says so, and if the same object has not answered through
/// another URL before.
#[must_use = "nothing is called before a policy is chosen and awaited"]
pub struct GroupCall<A, T, E = Infallible> {
    present: Arc<[Present]>,
    multicast: Option<Arc<Multicast>>,
    broadcast: bool,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    excluded: Vec<Member>,
    accept: Option<Accept<T>>,
    rest: Rest,
    method: usize,
    arguments: Arc<A>,
    decode: Decode<T>,
    make: Make<A, T, E>,
}

type Decode<T> = fn(&[u8]) -> Result<T, DecodeError>;
type Make<A, T, E> = fn(&Remote, usize, Shared<A>, Decode<T>) -> Call<Shared<A>, T, E>;

/// A call to a group with its policy: a future of [`Replies`].
///
/// Nothing happens before it is awaited, started or blocked on. Dropped before it is over, it cancels the calls that have
/// not ended.
///
/// # Panics
/// If it is polled after it was over. A panic of the arguments' `Serialize`, of the result's `Deserialize` or of the
/// filter passes through, and cancels the calls that have not ended.
#[must_use = "nothing is called before it is awaited, started or blocked on"]
pub struct Gather<A, T, E = Infallible> {
    stage: Stage<A, T, E>,
}

enum Stage<A, T, E> {
    Unstarted(GroupCall<A, T, E>, Needed),
    Running(Round<Call<Shared<A>, T, E>, T, E>),
    Finished,
}

/// Arguments that the calls of all members share.
pub(super) struct Shared<A>(Arc<A>);

impl<A: Serialize> Serialize for Shared<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<A, T, E> GroupCall<A, T, E> {
    /// A call of the method at position `method` of the interface's descriptor.
    #[doc(hidden)]
    pub fn new<Kind>(
        members: &Members,
        method: usize,
        arguments: A,
        decode: Decode<T>,
    ) -> GroupCall<A, T, E>
    where
        E: MethodFailure<Kind>,
    {
        GroupCall {
            present: members.present(),
            multicast: members.shared.multicast.clone(),
            broadcast: members.shared.broadcast,
            timeout: members.timeout,
            deadline: None,
            excluded: Vec::new(),
            accept: None,
            rest: Rest::GoesOn,
            method,
            arguments: Arc::new(arguments),
            decode,
            make: Call::new::<Kind>,
        }
    }

    /// Gives each member's call this long; see [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> GroupCall<A, T, E> {
        (self.timeout, self.deadline) = (Some(timeout), None);
        self
    }

    /// Ends each member's call at this moment; see [`Call::deadline`].
    pub fn deadline(mut self, deadline: impl Into<Instant>) -> GroupCall<A, T, E> {
        self.deadline = Some(deadline.into());
        self
    }

    /// Of the results, only those count for which this is true; the others are entries that are not
    /// [accepted](super::Reply::accepted).
    pub fn accept(
        mut self,
        filter: impl Fn(&Member, &T) -> bool + Send + Sync + 'static,
    ) -> GroupCall<A, T, E> {
        self.accept = Some(Arc::new(filter));
        self
    }

    /// Does not call this member, which then has no entry either. It goes on to count for what a
    /// [majority](GroupCall::majority) is.
    pub fn exclude(mut self, member: &Member) -> GroupCall<A, T, E> {
        self.excluded.push(member.clone());
        self
    }

    /// Cancels what is still under way when the policy is met or can no longer be; without it, those calls go on with
    /// nobody waiting.
    pub fn cancel_rest(mut self) -> GroupCall<A, T, E> {
        self.rest = Rest::Cancelled;
        self
    }

    /// Waits for every member, and is met if each gave an accepted answer.
    pub fn all(self) -> Gather<A, T, E> {
        self.needing(Needed::All)
    }

    /// Waits for one accepted answer.
    pub fn first(self) -> Gather<A, T, E> {
        self.quorum(1)
    }

    /// Waits for accepted answers of more than half of the group's members, the excluded ones counted.
    pub fn majority(self) -> Gather<A, T, E> {
        let half = self.present.len() / 2;
        self.quorum(half + 1)
    }

    /// Waits for so many accepted answers. More than there are members can never be met: nothing is sent then.
    pub fn quorum(self, accepted: usize) -> Gather<A, T, E> {
        self.needing(Needed::Accepted(accepted))
    }

    /// Waits for every member, at most until this moment, and takes what came.
    pub fn until(self, deadline: impl Into<Instant>) -> Gather<A, T, E> {
        self.deadline(deadline).needing(Needed::Whoever)
    }

    /// Waits for no answer, only until each call is in its send buffer. Those calls go on with nobody waiting.
    pub fn none(self) -> Gather<A, T, E> {
        self.needing(Needed::Nobody)
    }

    fn needing(self, needed: Needed) -> Gather<A, T, E> {
        Gather { stage: Stage::Unstarted(self, needed) }
    }
}

impl<A: Serialize, T, E> GroupCall<A, T, E> {
    fn into_round(self, needed: Needed) -> Round<Call<Shared<A>, T, E>, T, E> {
        let all = cfg_canary!("excluded_members_are_called");
        let called =
            self.present.iter().filter(|there| all || !self.excluded.contains(&there.member));
        let refused = self.refused();
        if let Some(multicast) = &self.multicast
            && refused.is_none()
        {
            let bytes = with_buffer(|buffer| {
                payload::encode(&*self.arguments, buffer).map_or(usize::MAX, |()| buffer.len())
            });
            bundle(multicast, called.clone(), bytes);
        }
        let calls = called.map(|there| {
            let arguments = Shared(Arc::clone(&self.arguments));
            let call = (self.make)(&there.remote, self.method, arguments, self.decode);
            let call = match (self.deadline, self.timeout) {
                (Some(deadline), _) => call.deadline(deadline),
                (None, Some(timeout)) => call.timeout(timeout),
                (None, None) => call,
            };
            (there.clone(), call)
        });
        // What is not waited for is not cancelled either.
        let rest = if needed == Needed::Nobody { Rest::GoesOn } else { self.rest };
        let round = Round::new(needed, calls.collect(), self.accept.clone(), rest);
        match refused {
            None => round,
            Some(method) => round.map(|_| Err(CallError::NotForBroadcast { method })),
        }
    }

    /// The method, if it promises more than a broadcast is for.
    fn refused(&self) -> Option<&'static str> {
        let first = self.present.first().filter(|_| self.broadcast)?;
        let (method, semantics) = first.remote.promise(self.method)?;
        let promises_more = semantics > Semantics::AtLeastOnce;
        (promises_more && !cfg_canary!("broadcasts_refuse_nothing")).then_some(method)
    }
}

impl<A: Serialize, T, E> Gather<A, T, E> {
    /// Makes the calls and returns as soon as they are in their send buffers; [`Replies`] is then a stream of what comes.
    /// Waits while the buffer of a member is full, at most until that call's deadline.
    pub async fn start(mut self) -> Replies<T, E> {
        let over = poll_fn(|cx| self.round().poll_left(cx)).await;
        let round = self.into_running();
        match over {
            Some(outcome) => Replies::over(round.entries, outcome),
            None => Replies::begun(round.map(Call::try_start)),
        }
    }

    /// Makes the calls and waits for what the policy needs, parking the thread; see [`Call::blocking`]. In an async task
    /// nothing is sent, and each entry is [`CallError::BlockingInAsync`].
    pub fn blocking(mut self) -> Replies<T, E> {
        if in_async_task() {
            self.round();
            let execution = Execution::NotExecuted;
            let refuse = |_| Err(CallError::BlockingInAsync { execution });
            return Replies::begun(self.into_running().map(refuse));
        }
        let limit = self.round().longest();
        match block_on(&mut self, limit) {
            Some(replies) => replies,
            None => {
                let (entries, outcome) = self.into_running().abandon();
                Replies::over(entries, outcome)
            }
        }
    }

    fn into_running(self) -> Round<Call<Shared<A>, T, E>, T, E> {
        match self.stage {
            Stage::Running(round) => round,
            Stage::Unstarted(..) | Stage::Finished => finished_before(),
        }
    }

    fn round(&mut self) -> &mut Round<Call<Shared<A>, T, E>, T, E> {
        if let Stage::Unstarted(..) = self.stage
            && let Stage::Unstarted(call, needed) =
                std::mem::replace(&mut self.stage, Stage::Finished)
        {
            self.stage = Stage::Running(call.into_round(needed));
        }
        match &mut self.stage {
            Stage::Running(round) => round,
            Stage::Unstarted(..) | Stage::Finished => finished_before(),
        }
    }
}

impl<A: Serialize, T, E> Future for Gather<A, T, E> {
    type Output = Replies<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Replies<T, E>> {
        let round = self.round();
        let Poll::Ready(outcome) = round.poll(cx) else { return Poll::Pending };
        let entries = std::mem::take(&mut round.entries);
        self.stage = Stage::Finished;
        Poll::Ready(Replies::over(entries, outcome))
    }
}

/// Nothing in it is pinned.
impl<A, T, E> Unpin for Gather<A, T, E> {}

impl<A, T, E> fmt::Debug for GroupCall<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.present.iter().map(|there| &there.member).collect();
        f.debug_struct("GroupCall")
            .field("members", &members)
            .field("excluded", &self.excluded)
            .finish_non_exhaustive()
    }
}

impl<A, T, E> fmt::Debug for Gather<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Unstarted(call, needed) => {
                f.debug_tuple("Gather").field(call).field(needed).finish()
            }
            Stage::Running(_) => f.write_str("Gather(running)"),
            Stage::Finished => f.write_str("Gather(finished)"),
        }
    }
}

fn finished_before() -> ! {
    panic!("a call to a group was polled after it was over")
}
