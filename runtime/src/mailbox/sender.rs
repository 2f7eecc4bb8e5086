//! What a program sends through: synchronous, asynchronous, or not waiting at all.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{SemaphorePermit, TryAcquireError, mpsc};

use super::buffer::{Buffer, Placed};
use super::error::SendError;
use super::object::NotPut;
use super::pump::{BUSY_PAUSE, Pump, failure, narrow};
use super::way::Way;
use crate::blocking::{block_on, in_async_task};
use crate::error::CallError;
use crate::group::Member;
use crate::node::Node;
use crate::semantics::{Execution, Semantics};
use crate::wire::payload;

/// Sends messages of type `T` to one mailbox, or each message to several. Cheap to clone; all clones are one sender.
///
/// | | returns when | while the sender's buffer is full |
/// |---|---|---|
/// | [`send`](Sender::send) | the message was received | waits |
/// | [`post`](Sender::post) | the message is in the sender's buffer | waits |
/// | [`try_post`](Sender::try_post) | at once | [`SendError::Full`] |
/// | [`send_blocking`](Sender::send_blocking), [`post_blocking`](Sender::post_blocking) | as `send`, `post` | park the thread |
/// | [`flush`](Sender::flush) | what was posted is in the mailbox | |
///
/// **Order.** The messages of one sender arrive in one mailbox in the order in which they were posted or sent, over any
/// transport. Messages may be missing (then it was said which call failed, or how many posted ones were lost), and under
/// at-least-once some may come again, with those behind them. Between two senders there is no order.
///
/// **Memory.** The sender keeps [`SenderConfig::buffer`] encoded messages, the mailbox its [`Capacity`](super::Capacity).
/// A mailbox that is full holds up the sender's buffer, and that holds up who posts.
///
/// When the last clone is dropped, what was posted still leaves, unless from then on a mailbox takes nothing
/// for [`SenderConfig::timeout`]: then it is lost, and nobody is told. [`flush`](Sender::flush) before a program ends.
pub struct Sender<T> {
    shared: Arc<Shared>,
    message: PhantomData<fn(&T)>,
}

/// How a sender sends.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// What is promised for each message. At most once: a message arrives once or not at all, whatever is sent again.
    /// Exactly once needs stores on both sides, and a `DurableMailbox`: a message that has left the buffer is there
    /// once, whatever crashes.
    pub semantics: Semantics,
    /// Messages that were posted and have not arrived. 64.
    pub buffer: usize,
    /// How long a mailbox may not be reached before its messages are given up. 30 seconds, as for calls. A mailbox that is
    /// reached and full is waited for without an end, as long as a clone of the sender lives; after that for so long, and
    /// without an end under exactly once.
    pub timeout: Duration,
}

struct Shared {
    buffer: Arc<Buffer>,
    mailboxes: Vec<(Member, Way)>,
    config: SenderConfig,
    /// Largest encoded message, as far as this side knows.
    largest: usize,
    _node: Node,
}

impl Default for SenderConfig {
    fn default() -> SenderConfig {
        let timeout = Duration::from_secs(30);
        SenderConfig { semantics: Semantics::AtMostOnce, buffer: 64, timeout }
    }
}

impl<T> Sender<T> {
    pub(super) fn open(
        node: &Node,
        mailboxes: Vec<(Member, Way)>,
        config: SenderConfig,
    ) -> Result<Sender<T>, CallError> {
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        let runtime = node.runtime().ok_or(closed)?;
        let buffer = Buffer::new(config.buffer);
        let limits = node.limits();
        let largest = limits.message;
        // So that what stands around a batch fits as well. What the other side accepts is seen by what it refuses.
        let most = limits.message.min(limits.datagram_message) / 2;
        for (number, (member, mailbox)) in mailboxes.iter().enumerate() {
            runtime.spawn(
                Pump {
                    buffer: buffer.clone(),
                    number,
                    member: member.clone(),
                    mailbox: mailbox.clone(),
                    config: config.clone(),
                    batch_bytes: BATCH_BYTES.min(most),
                    next: 0,
                    on_its_way: 0,
                }
                .run(),
            );
        }
        let shared = Shared { buffer, mailboxes, config, largest, _node: node.clone() };
        Ok(Sender { shared: Arc::new(shared), message: PhantomData })
    }

    /// Waits until all that was posted before has an end: it is in the mailbox, or it is lost.
    ///
    /// # Errors
    /// [`SendError::Lost`] if messages were lost since that was last said.
    pub async fn flush(&self) -> Result<(), SendError> {
        let buffer = &self.shared.buffer;
        let posted = buffer.flow().posted;
        buffer.until(|flow| flow.gone >= posted).await;
        buffer.take_lost()
    }

    /// The mailboxes.
    #[must_use]
    pub fn mailboxes(&self) -> Vec<Member> {
        self.shared.mailboxes.iter().map(|(member, _)| member.clone()).collect()
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message and waits until it was received: taken out of the mailbox by who owns it.
    ///
    /// Dropped before its end, the message may arrive all the same.
    ///
    /// # Errors
    /// Those of the message, whose [`execution`](SendError::execution) says whether it was received. To several mailboxes:
    /// [`SendError::Some`].
    pub async fn send(&self, message: &T) -> Result<(), SendError> {
        let bytes = self.encode(message)?;
        let Shared { buffer, mailboxes, .. } = &*self.shared;
        let place = self.place().await?;
        let (sender, mut told) = mpsc::channel(mailboxes.len().max(1));
        buffer.push(place, bytes, mailboxes.len(), Some(sender))?;
        let mut failed = Vec::new();
        while let Some((number, placed)) = told.recv().await {
            let (member, mailbox) = &mailboxes[number];
            let taken = match placed {
                Ok(placed) => self.taken(member, mailbox, placed).await,
                Err(error) => Err(error),
            };
            failed.extend(taken.err().map(|error| (member.clone(), error)));
        }
        match (failed.pop(), mailboxes.len()) {
            (None, _) => Ok(()),
            (Some((_, error)), 1) => Err(error),
            (Some(last), of) => {
                failed.push(last);
                Err(SendError::Some { failed, of })
            }
        }
    }

    /// Puts a message into the sender's buffer, from where it leaves by itself; waits only while that is full.
    ///
    /// # Errors
    /// [`SendError::Lost`] if messages that were posted before did not arrive; this one was not posted then, and the next
    /// will be. [`SendError::NotEncoded`], [`SendError::Failed`] with [`CallError::TooLarge`] and [`SendError::Closed`]: it was
    /// not posted.
    pub async fn post(&self, message: &T) -> Result<(), SendError> {
        let bytes = self.encode(message)?;
        self.shared.buffer.take_lost()?;
        let place = self.place().await?;
        self.shared.buffer.push(place, bytes, self.shared.mailboxes.len(), None)
    }

    /// As [`post`](Sender::post), never waiting.
    ///
    /// # Errors
    /// Those of `post`, and [`SendError::Full`].
    pub fn try_post(&self, message: &T) -> Result<(), SendError> {
        let bytes = self.encode(message)?;
        let buffer = &self.shared.buffer;
        buffer.take_lost()?;
        let place = buffer.places.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits => SendError::Full,
            TryAcquireError::Closed => SendError::Closed,
        })?;
        buffer.push(place, bytes, self.shared.mailboxes.len(), None)
    }

    /// As [`send`](Sender::send), parking the thread.
    ///
    /// # Errors
    /// Those of `send`, and [`SendError::BlockingInAsync`] inside an async task: nothing was sent.
    pub fn send_blocking(&self, message: &T) -> Result<(), SendError> {
        if in_async_task() {
            return Err(SendError::BlockingInAsync);
        }
        block_on(self.send(message), None).unwrap_or(Err(SendError::Closed))
    }

    /// As [`post`](Sender::post), parking the thread while the buffer is full.
    ///
    /// # Errors
    /// Those of `post`, and [`SendError::BlockingInAsync`] inside an async task: nothing was posted.
    pub fn post_blocking(&self, message: &T) -> Result<(), SendError> {
        if in_async_task() {
            return Err(SendError::BlockingInAsync);
        }
        block_on(self.post(message), None).unwrap_or(Err(SendError::Closed))
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, SendError> {
        self.shared.buffer.places.acquire().await.map_err(|_| SendError::Closed)
    }

    fn encode(&self, message: &T) -> Result<Bytes, SendError> {
        let mut bytes = Vec::new();
        payload::encode(message, &mut bytes)
            .map_err(|error| SendError::NotEncoded { reason: error.to_string().into() })?;
        let (size, limit) = (bytes.len(), self.shared.largest);
        if size > limit {
            return Err(SendError::Failed(CallError::TooLarge { size, limit, datagrams: false }));
        }
        Ok(bytes.into())
    }

    /// Waits until a message that was put was received.
    async fn taken(&self, member: &Member, mailbox: &Way, placed: Placed) -> Result<(), SendError> {
        let timeout = self.shared.config.timeout;
        if placed.taken || cfg_canary!("what_is_put_was_received") {
            return Ok(());
        }
        loop {
            match mailbox.is_taken(placed, timeout).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(CallError::Method(NotPut::Busy)) => tokio::time::sleep(BUSY_PAUSE).await,
                Err(error @ CallError::Method(_)) => return Err(failure(member, error)),
                Err(CallError::NoSuchObject(_)) => {
                    // It may have been received before the mailbox ended.
                    let (mailbox, execution) = (member.clone(), Execution::Unknown);
                    return Err(SendError::Gone { mailbox, execution });
                }
                Err(error) => return Err(SendError::Unseen(narrow(error))),
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.buffer.close();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { shared: self.shared.clone(), message: PhantomData }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("mailboxes", &self.mailboxes())
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Bytes of several messages in one call; a longer message goes alone.
const BATCH_BYTES: usize = 64 << 10;
