//! Messages: a queue in one process that others put into, near or far.
//!
//! A [`Mailbox`] is a remote object with a name, and a [`Sender`] calls it: what holds for calls (sessions, semantics,
//! deadlines, errors) holds for messages. A sender has a buffer of its own and one call under way to each of its
//! mailboxes; that keeps its messages in their order over any transport.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::address::IntoUrl;
use crate::error::CallError;
use crate::group::{Group as _, Member};
use crate::node::Node;
use crate::registry::RegistryError;

mod buffer;
mod error;
mod inbox;
mod object;
mod pump;
mod sender;

pub use error::{ReceiveError, SendError};
pub use inbox::Mailbox;
pub use sender::{Sender, SenderConfig};

use object::{RemoteMailboxGroup, RemoteMailboxProxy};

/// How many messages a mailbox holds that nobody has received yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// So many; who sends waits while there are as many. Zero is [`Capacity::Rendezvous`].
    Bounded(usize),
    /// None: a message is handed over when somebody receives it.
    Rendezvous,
}

impl Node {
    /// A mailbox of this node under a name, as which others reach it at `tcp://host:port/name`, wherever this node
    /// [listens](Node::listen). It ends, and its name is free again, when the last clone is dropped.
    ///
    /// # Errors
    /// As [`Registry::bind`](crate::Registry::bind).
    pub fn mailbox<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        capacity: Capacity,
    ) -> Result<Mailbox<T>, RegistryError> {
        Mailbox::open(self, name, capacity)
    }

    /// A sender to the mailbox at `url`, with the default [`SenderConfig`].
    ///
    /// # Errors
    /// As [`Node::lookup`]: [`CallError::NoSuchObject`] if there is no mailbox of that name.
    pub async fn sender<T>(&self, url: impl IntoUrl) -> Result<Sender<T>, CallError> {
        self.sender_with(url, SenderConfig::default()).await
    }

    /// A sender to the mailbox at `url`.
    ///
    /// # Errors
    /// As [`Node::sender`].
    pub async fn sender_with<T>(
        &self,
        url: impl IntoUrl,
        config: SenderConfig,
    ) -> Result<Sender<T>, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        let mailbox: RemoteMailboxProxy = self.lookup(&url).await?;
        Sender::open(self, vec![(Member::new(url), mailbox)], config)
    }

    /// A sender of each message to all the mailboxes, none of which need be there yet.
    ///
    /// # Errors
    /// As [`Node::group`].
    pub async fn group_sender<T>(
        &self,
        urls: impl IntoIterator<Item = impl IntoUrl>,
        config: SenderConfig,
    ) -> Result<Sender<T>, CallError> {
        let group: RemoteMailboxGroup = self.group(urls).await?;
        let mailboxes = group.members().into_iter().map(|member| {
            let proxy = self.proxy::<RemoteMailboxProxy>(member.url())?;
            Ok((member, proxy))
        });
        Sender::open(self, mailboxes.collect::<Result<_, CallError>>()?, config)
    }
}

impl Capacity {
    /// Messages that may be there at a time: the one of a rendezvous is offered and not yet taken.
    fn places(self) -> usize {
        match self {
            Capacity::Bounded(places) => places.clamp(1, tokio::sync::Semaphore::MAX_PERMITS),
            Capacity::Rendezvous => 1,
        }
    }

    fn is_rendezvous(self) -> bool {
        matches!(self, Capacity::Rendezvous | Capacity::Bounded(0))
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_rendezvous() {
            f.write_str("a rendezvous")
        } else {
            write!(f, "room for {} messages", self.places())
        }
    }
}
