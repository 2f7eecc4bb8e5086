//! The receiver's end: a queue with so many places, and who waits for a message or for a place.
//!
//! A place is taken before a message is put and free again when it was received. No message is decoded or dropped under
//! the lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Capacity;
use super::error::ReceiveError;
use super::object::Door;
use crate::blocking::{block_on, in_async_task};
use crate::driver::{lock, unless};
use crate::node::Node;
use crate::registry::{Bound, RegistryError};

/// Where messages of type `T` arrive. Cheap to clone; each message is received once, by one of the clones.
///
/// ```
/// use farcall::{Capacity, Mailbox, Node, Sender};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let owner = Node::builder().build();
/// let inbox: Mailbox<String> = owner.mailbox("orders", Capacity::Bounded(64))?;
/// let here = owner.listen("tcp://127.0.0.1:0").await?;
///
/// let node = Node::builder().build();
/// let orders: Sender<String> = node.sender(here.url("orders")).await?;
/// orders.post(&"tea".to_owned()).await?; // it is in the sender's buffer
/// assert_eq!(inbox.receive().await?, "tea");
/// # Ok(())
/// # }
/// ```
///
/// What is in the mailbox when the last clone is dropped, or when its process ends, is lost; those who
/// [send](super::Sender::send) are told.
pub struct Mailbox<T> {
    owner: Arc<Owner<T>>,
}

/// Ends the mailbox when it goes.
struct Owner<T> {
    inbox: Arc<Inbox<T>>,
    node: Node,
    name: Box<str>,
    /// What the name was bound to.
    bound: Bound,
}

/// The queue, shared by its owner and its remote object.
pub(super) struct Inbox<T> {
    /// Tells this mailbox from others that had the name before, or will have it.
    pub(super) id: u64,
    capacity: Capacity,
    state: Mutex<State<T>>,
    places: Semaphore,
    came: Notify,
    /// A message was received, or the mailbox has ended.
    went: Notify,
}

struct State<T> {
    messages: VecDeque<T>,
    /// Messages that were ever put: the position of the next.
    put: u64,
    closed: bool,
}

/// What became of a message that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Taken,
    NotYet,
    /// The mailbox ended before.
    Never,
}

impl<T: DeserializeOwned + Send + 'static> Mailbox<T> {
    pub(super) fn open(
        node: &Node,
        name: &str,
        capacity: Capacity,
    ) -> Result<Mailbox<T>, RegistryError> {
        let inbox = Arc::new(Inbox::new(node.draw(), capacity));
        let bound = node.registry().bind_known(name, Door::new(inbox.clone()))?;
        let owner = Owner { inbox, node: node.clone(), name: name.into(), bound };
        Ok(Mailbox { owner: Arc::new(owner) })
    }
}

impl<T> Mailbox<T> {
    /// The next message, waiting until there is one. Dropping the future loses none.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] if the node was shut down and the mailbox is empty.
    pub async fn receive(&self) -> Result<T, ReceiveError> {
        let inbox = &self.owner.inbox;
        loop {
            let came = inbox.came.notified();
            if let Some(message) = inbox.take() {
                return Ok(message);
            }
            let is_closed = unless(self.owner.node.closing().wait(), came).await.is_none();
            if is_closed {
                return inbox.take().ok_or(ReceiveError::Closed);
            }
        }
    }

    /// As [`receive`](Mailbox::receive), parking the thread.
    ///
    /// # Errors
    /// Those of `receive`, and [`ReceiveError::BlockingInAsync`] inside an async task.
    pub fn receive_blocking(&self) -> Result<T, ReceiveError> {
        if in_async_task() {
            return Err(ReceiveError::BlockingInAsync);
        }
        block_on(self.receive(), None).unwrap_or(Err(ReceiveError::Closed))
    }

    /// The next message if there is one; never waits.
    #[must_use]
    pub fn try_receive(&self) -> Option<T> {
        self.owner.inbox.take()
    }

    /// Messages that wait to be received.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.owner.inbox.state).messages.len()
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many may wait.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        self.owner.inbox.capacity
    }
}

impl<T> Inbox<T> {
    pub(super) fn new(id: u64, capacity: Capacity) -> Inbox<T> {
        Inbox {
            id,
            capacity,
            state: Mutex::new(State { messages: VecDeque::new(), put: 0, closed: false }),
            places: Semaphore::new(capacity.places()),
            came: Notify::new(),
            went: Notify::new(),
        }
    }

    /// A place for a message, waited for until `deadline`; nothing if there was none by then.
    ///
    /// # Errors
    /// The mailbox has ended.
    pub(super) async fn place(&self, deadline: Instant) -> Result<Option<Place<'_, T>>, Closed> {
        match tokio::time::timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(permit)) => Ok(Some(Place { inbox: self, permit })),
            Ok(Err(_)) => Err(Closed),
            Err(_) => Ok(None),
        }
    }

    /// A place, if there is one now.
    pub(super) fn try_place(&self) -> Option<Place<'_, T>> {
        Some(Place { inbox: self, permit: self.places.try_acquire().ok()? })
    }

    /// Places that are free now.
    pub(super) fn room(&self) -> usize {
        self.places.available_permits()
    }

    /// Whether a message is handed over and not kept.
    pub(super) fn is_rendezvous(&self) -> bool {
        self.capacity.is_rendezvous()
    }

    /// Waits, at most until `deadline`, for the message at this position to be received.
    pub(super) async fn seen(&self, position: u64, deadline: Instant) -> Seen {
        let decided = async {
            loop {
                // Enlisted before the look: what happens in between is not missed.
                let mut went = std::pin::pin!(self.went.notified());
                went.as_mut().enable();
                let seen = lock(&self.state).seen(position);
                match seen {
                    Seen::NotYet => went.await,
                    seen => return seen,
                }
            }
        };
        tokio::time::timeout_at(deadline, decided).await.unwrap_or(Seen::NotYet)
    }

    /// Takes back the message of a rendezvous at this position, unless somebody has received it or the mailbox has ended.
    /// [`Seen::NotYet`]: it was taken back, and nobody will receive it.
    pub(super) fn withdraw(&self, position: u64) -> Seen {
        let mut state = lock(&self.state);
        let seen = state.seen(position);
        if seen != Seen::NotYet || cfg_canary!("what_is_withdrawn_stays") {
            return seen;
        }
        // A rendezvous has one place: the message is the only one.
        let withdrawn = state.messages.pop_back();
        state.put = position;
        self.places.add_permits(1);
        drop(state);
        drop(withdrawn);
        Seen::NotYet
    }

    pub(super) fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        let message = match cfg_canary!("the_last_message_is_received_first") {
            true => state.messages.pop_back(),
            false => state.messages.pop_front(),
        }?;
        let more = !state.messages.is_empty();
        drop(state);
        self.places.add_permits(1);
        self.went.notify_waiters();
        if more {
            // One notice may stand for several messages.
            self.came.notify_one();
        }
        Some(message)
    }

    pub(super) fn close(&self) {
        self.places.close();
        let mut state = lock(&self.state);
        state.closed = true;
        state.put -= state.messages.len() as u64;
        let messages = std::mem::take(&mut state.messages);
        drop(state);
        self.went.notify_waiters();
        drop(messages);
    }
}

impl<T> State<T> {
    /// What became of the message at this position so far.
    fn seen(&self, position: u64) -> Seen {
        match self.put - self.messages.len() as u64 {
            taken if taken > position => Seen::Taken,
            _ if self.closed => Seen::Never,
            _ => Seen::NotYet,
        }
    }
}

/// The mailbox has ended.
#[derive(Debug)]
pub(super) struct Closed;

/// A place in a mailbox; free again if nothing is put there.
pub(super) struct Place<'a, T> {
    inbox: &'a Inbox<T>,
    permit: SemaphorePermit<'a>,
}

impl<T> Place<'_, T> {
    /// Puts a message, and gives its position.
    ///
    /// # Errors
    /// The mailbox has ended.
    pub(super) fn put(self, message: T) -> Result<u64, Closed> {
        let inbox = self.inbox;
        let mut state = lock(&inbox.state);
        if state.closed {
            drop(state);
            return Err(Closed);
        }
        self.permit.forget();
        let position = state.put;
        state.put += 1;
        state.messages.push_back(message);
        drop(state);
        inbox.came.notify_one();
        Ok(position)
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        self.inbox.close();
        // It may have been unbound by hand, and the name may mean another mailbox now.
        self.node.registry().unbind_if(&self.name, &self.bound);
    }
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Mailbox<T> {
        Mailbox { owner: self.owner.clone() }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("name", &self.owner.name)
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The longest that a call waits at a mailbox, for a place or a receiver; the sender asks again then. It bounds how long
/// a sender goes without a sign of life.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);
