//! The remote object of a mailbox: how messages are put over the network.
//!
//! No call waits for long: a mailbox that stays full says so, and is asked again. So a call that is not answered means
//! that the mailbox is not reached, and not that it is full.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall_macros::remote;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::inbox::{Inbox, LONGEST_WAIT, Seen};
use crate::wire::payload::{AsBytes, decode};

/// A mailbox, for those who send.
#[remote(crate = crate, semantics = "at_most_once")]
pub(crate) trait RemoteMailbox {
    /// Puts messages in their order, as many as there are places for; waits so many milliseconds for the first place.
    async fn put(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut>;

    /// As `put`, and again if it is asked again.
    #[remote(semantics = "at_least_once")]
    async fn put_again(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut>;

    /// As `put`, sent once.
    #[remote(semantics = "maybe")]
    async fn put_once(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut>;

    /// Whether the message at this position was received; waits so many milliseconds until it is.
    #[remote(semantics = "at_least_once")]
    async fn is_taken(&self, mailbox: u64, position: u64, wait_ms: u32) -> Result<bool, NotPut>;
}

/// Encoded messages, one behind the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batch<'a> {
    #[serde(borrow)]
    bytes: AsBytes<Cow<'a, [u8]>>,
    /// Where each of them ends.
    ends: Vec<u32>,
}

/// What was put of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Put {
    /// The mailbox's own number.
    pub(super) mailbox: u64,
    /// How many messages, from the first.
    pub(super) accepted: u32,
    /// The position of the last of these.
    pub(super) last: u64,
    /// Whether that was received already, as in a rendezvous.
    pub(super) taken: bool,
    /// Why the message behind them can never be put.
    pub(super) refused: Option<String>,
    /// How many places are left.
    pub(super) room: u32,
}

/// Why nothing was put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum NotPut {
    #[error("the mailbox has ended")]
    Gone,
    #[error("another mailbox has the name")]
    Replaced,
    #[error("as many senders as a mailbox bears wait for places")]
    Busy,
    #[error("the messages do not lie where the batch says")]
    Garbled,
}

impl<'a> Batch<'a> {
    /// These messages.
    pub(super) fn of(messages: &[bytes::Bytes]) -> Batch<'static> {
        let mut batch = Batch {
            bytes: AsBytes(Cow::Owned(Vec::new())),
            ends: Vec::with_capacity(messages.len()),
        };
        for message in messages {
            batch.bytes.0.to_mut().extend_from_slice(message);
            // A message is no longer than `Limits::message`, and a batch of several is short.
            batch.ends.push(u32::try_from(batch.bytes.0.len()).unwrap_or(u32::MAX));
        }
        batch
    }

    /// The messages, if they lie as it says.
    pub(super) fn messages(&self) -> Option<Vec<&[u8]>> {
        let mut begin = 0;
        let message = |end: &u32| {
            let end = usize::try_from(*end).ok()?;
            let message = self.bytes.0.get(begin..end)?;
            begin = end;
            Some(message)
        };
        self.ends.iter().map(message).collect()
    }
}

/// What is bound to the mailbox's name.
pub(super) struct Door<T> {
    inbox: Arc<Inbox<T>>,
    waiting: AtomicUsize,
}

/// A call that waits at the door.
struct Waits<'a>(&'a AtomicUsize);

impl<T> Door<T> {
    pub(super) fn new(inbox: Arc<Inbox<T>>) -> Door<T> {
        Door { inbox, waiting: AtomicUsize::new(0) }
    }

    fn wait(&self) -> Result<Waits<'_>, NotPut> {
        let waits = Waits(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(NotPut::Busy);
        }
        Ok(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: DeserializeOwned + Send + 'static> Door<T> {
    async fn accept(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut> {
        let _waits = self.wait()?;
        let (inbox, deadline) = (&*self.inbox, until(wait_ms));
        let messages = batch.messages().ok_or(NotPut::Garbled)?;
        let (mailbox, room) = (inbox.id, 0);
        let mut put = Put { mailbox, accepted: 0, last: 0, taken: false, refused: None, room };
        let mut first = inbox.place(deadline).await.map_err(|_| NotPut::Gone)?;
        for message in messages {
            let Some(place) = first.take().or_else(|| match put.accepted {
                0 => None,
                _ => inbox.try_place(),
            }) else {
                break;
            };
            let message = match decode::<T>(message) {
                Ok(message) => message,
                Err(error) => {
                    put.refused = Some(error.to_string());
                    break;
                }
            };
            match place.put(message) {
                Ok(position) => (put.accepted, put.last) = (put.accepted + 1, position),
                Err(_) if put.accepted == 0 => return Err(NotPut::Gone),
                Err(_) => break,
            }
            if inbox.is_rendezvous() {
                self.hand_over(&mut put, deadline).await?;
                break;
            }
        }
        put.room = u32::try_from(inbox.room()).unwrap_or(u32::MAX);
        Ok(put)
    }

    /// Waits for who receives the message that was offered; takes it back if nobody does.
    async fn hand_over(&self, put: &mut Put, deadline: Instant) -> Result<(), NotPut> {
        let seen = match self.inbox.seen(put.last, deadline).await {
            // Somebody may receive it just now, or the mailbox end.
            Seen::NotYet => self.inbox.withdraw(put.last),
            seen => seen,
        };
        match seen {
            Seen::Taken => put.taken = true,
            Seen::Never => return Err(NotPut::Gone),
            Seen::NotYet => put.accepted = 0,
        }
        Ok(())
    }
}

#[remote(crate = crate)]
impl<T: DeserializeOwned + Send + 'static> RemoteMailbox for Door<T> {
    async fn put(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut> {
        self.accept(batch, wait_ms).await
    }

    async fn put_again(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut> {
        self.accept(batch, wait_ms).await
    }

    async fn put_once(&self, batch: &Batch<'_>, wait_ms: u32) -> Result<Put, NotPut> {
        self.accept(batch, wait_ms).await
    }

    async fn is_taken(&self, mailbox: u64, position: u64, wait_ms: u32) -> Result<bool, NotPut> {
        let _waits = self.wait()?;
        if mailbox != self.inbox.id {
            return Err(NotPut::Replaced);
        }
        match self.inbox.seen(position, until(wait_ms)).await {
            Seen::Taken => Ok(true),
            Seen::NotYet => Ok(false),
            Seen::Never => Err(NotPut::Gone),
        }
    }
}

fn until(wait_ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(u64::from(wait_ms)).min(LONGEST_WAIT)
}

/// Calls that wait at one mailbox, for a place or to be received; one of each sender, and one of each `send`.
const MOST_WAITING: usize = 4096;
