//! Waiting for a saved call, here and on a ticket: a timeout ends the wait, never the call.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{Pending, Stage, Way};
use crate::blocking::{block_on, in_async_task};
use crate::dispatch::Status;
use crate::driver::link::Extras;
use crate::error::CallError;
use crate::private::MethodFailure;
use crate::semantics::Execution;
use crate::ticket::{Ended, Ticket};
use crate::wire::payload;

/// One wait for a saved call.
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    /// Ends the wait; armed when somebody waits first.
    alarm: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Ready with how the call ended, or that it goes on.
    pub(super) fn poll(
        &mut self,
        timeout: Option<Duration>,
        runtime: Option<&Handle>,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        if let Poll::Ready(ended) = self.ticket.call.poll_ended(cx) {
            return Poll::Ready(ended);
        }
        let (Some(timeout), Some(runtime)) = (timeout, runtime) else { return Poll::Pending };
        let alarm = self
            .alarm
            .get_or_insert_with(|| runtime.spawn(async move { tokio::time::sleep(timeout).await }));
        let _ = ready!(Pin::new(alarm).poll(cx));
        Poll::Ready(self.deferred(timeout))
    }

    fn deferred(&self, waited: Duration) -> Ended {
        Ended::Failed(CallError::Deferred { waited, ticket: self.ticket.clone() })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.abort();
        }
    }
}

impl<T, E> Pending<T, E> {
    /// The journal has taken the call.
    pub(crate) fn saved(&mut self, ticket: Ticket, timeout: Option<Duration>) {
        self.way = Way::Saved(Waiting { ticket, alarm: None });
        self.stage = Stage::InFlight;
        self.timeout = timeout;
    }

    /// What the caller is told of a saved call that has ended.
    pub(super) fn end(&mut self, ended: &Ended) -> Result<T, CallError<E>> {
        match ended {
            Ended::Ok(body) => self.finish(Ok(Status::Ok), body, Extras::default()),
            Ended::MethodError(body) => {
                self.finish(Ok(Status::MethodError), body, Extras::default())
            }
            Ended::Failed(error) => self.finish(Err(error.clone()), &[], Extras::default()),
        }
    }

    /// Parks the thread until the answer, or until the timeout.
    pub(super) fn park_saved(mut self) -> Result<T, CallError<E>> {
        let Way::Saved(waiting) = &self.way else { return self.park() };
        let ticket = waiting.ticket.clone();
        let ended = block_on(poll_fn(|cx| ticket.call.poll_ended(cx)), self.timeout);
        let deferred = || waiting.deferred(self.timeout.unwrap_or_default());
        let ended = ended.unwrap_or_else(deferred);
        self.end(&ended)
    }
}

impl Ticket {
    /// Waits until the call has ended. It can be waited for again, with the same result.
    ///
    /// The types are those of the method: `let balance: Result<u64, CallError<Frozen>> = ticket.wait().await;`
    ///
    /// # Errors
    /// Those of the call, and [`CallError::BadReply`] if the types are not the method's.
    pub async fn wait<T, E, Kind>(&self) -> Result<T, CallError<E>>
    where
        T: DeserializeOwned,
        E: MethodFailure<Kind>,
    {
        let ended = poll_fn(|cx| self.call.poll_ended(cx)).await;
        decode(&ended)
    }

    /// As [`wait`](Ticket::wait), for at most this long; nothing if the call has not ended then.
    ///
    /// # Errors
    /// Those of [`wait`](Ticket::wait).
    pub async fn wait_for<T, E, Kind>(&self, timeout: Duration) -> Option<Result<T, CallError<E>>>
    where
        T: DeserializeOwned,
        E: MethodFailure<Kind>,
    {
        tokio::time::timeout(timeout, self.wait()).await.ok()
    }

    /// As [`wait`](Ticket::wait), parking the thread.
    ///
    /// # Errors
    /// Those of [`wait`](Ticket::wait), and [`CallError::BlockingInAsync`] inside an async task, where the call goes on.
    pub fn blocking<T, E, Kind>(&self) -> Result<T, CallError<E>>
    where
        T: DeserializeOwned,
        E: MethodFailure<Kind>,
    {
        let execution = Execution::Unknown;
        if in_async_task() {
            return Err(CallError::BlockingInAsync { execution });
        }
        match block_on(self.wait(), None) {
            Some(result) => result,
            None => Err(CallError::Closed { execution }),
        }
    }

    /// The result, if the call has ended.
    ///
    /// # Errors
    /// Those of [`wait`](Ticket::wait).
    pub fn try_take<T, E, Kind>(&self) -> Option<Result<T, CallError<E>>>
    where
        T: DeserializeOwned,
        E: MethodFailure<Kind>,
    {
        self.call.try_ended().map(|ended| decode(&ended))
    }

    /// Gives the call up: it never runs, unless it has run. Wait for what comes of it.
    ///
    /// That is [`CallError::Cancelled`], not executed, when the server has committed that it never runs, or was never
    /// asked; or the result, if it ran. If neither can be had, the call goes on to be cancelled.
    pub fn cancel(&self) {
        self.call.cancel();
    }
}

/// A result as the caller's types.
pub(crate) fn decode<T, E, Kind>(ended: &Ended) -> Result<T, CallError<E>>
where
    T: DeserializeOwned,
    E: MethodFailure<Kind>,
{
    match ended {
        Ended::Ok(body) => payload::decode(body)
            .map_err(|error| CallError::BadReply { reason: error.to_string().into() }),
        Ended::MethodError(body) => match E::decode(body) {
            Ok(error) => Err(CallError::Method(error)),
            Err(reason) => Err(CallError::BadReply { reason }),
        },
        Ended::Failed(error) => Err(error.clone().widen()),
    }
}
