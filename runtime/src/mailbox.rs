//! Messages: a queue in one process that others put into, near or far.
//!
//! A [`Mailbox`] is a remote object with a name, and a [`Sender`] calls it: what holds for calls (sessions, semantics,
//! deadlines, errors) holds for messages. A sender has a buffer of its own and one call under way to each of its
//! mailboxes; that keeps its messages in their order over any transport.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::address::{IntoUrl, Url};
use crate::discover::{Discovery, is_group};
use crate::error::CallError;
use crate::group::{Group as _, Member};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::registry::RegistryError;
use crate::semantics::Semantics;

mod buffer;
#[cfg(feature = "sqlite")]
mod durable;
mod error;
mod inbox;
mod object;
mod pump;
mod sender;
mod way;

#[cfg(feature = "sqlite")]
pub use durable::DurableMailbox;
pub use error::{ReceiveError, SendError};
pub use inbox::Mailbox;
pub use sender::{Sender, SenderConfig};

#[cfg(feature = "sqlite")]
use durable::{RemoteDurableMailboxGroup, RemoteDurableMailboxProxy};
use object::{RemoteMailboxGroup, RemoteMailboxProxy};
use way::Way;

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
    /// [listens](Node::listen). It ends when the last clone is dropped, and its name is free again
    /// unless it means another object by then.
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

    /// A sender to the mailbox at `url`, with the default [`SenderConfig`]; to those that are
    /// [found](Node::found_sender) there if it is a multicast group's address, or `255.255.255.255`.
    ///
    /// # Errors
    /// As [`Node::lookup`]: [`CallError::NoSuchObject`] if there is no mailbox of that name. As [`Node::found_sender`] for
    /// a group.
    pub async fn sender<T>(&self, url: impl IntoUrl) -> Result<Sender<T>, CallError> {
        self.sender_with(url, SenderConfig::default()).await
    }

    /// As [`sender`](Node::sender), with a config.
    ///
    /// # Errors
    /// As [`Node::sender`]; for [`Semantics::ExactlyOnce`] also [`CallError::NoStore`] on a node without a store, and
    /// [`CallError::NotDurable`] without the feature `sqlite`.
    pub async fn sender_with<T>(
        &self,
        url: impl IntoUrl,
        config: SenderConfig,
    ) -> Result<Sender<T>, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        if is_group(&url) {
            return self.found_sender(url, &Discovery::default(), config).await;
        }
        let way = match config.semantics {
            #[cfg(feature = "sqlite")]
            Semantics::ExactlyOnce => {
                // Its owner need not be there, for what is sent is saved; but if it is, it must have such a mailbox.
                match self.lookup::<RemoteDurableMailboxProxy>(&url).await {
                    Err(CallError::Unreachable { .. } | CallError::DeadlineExceeded { .. }) => {
                        Way::Durable(self.proxy(&url)?)
                    }
                    found => Way::Durable(found?),
                }
            }
            semantics => {
                refuse(semantics)?;
                Way::Memory(self.lookup::<RemoteMailboxProxy>(&url).await?)
            }
        };
        Sender::open(self, vec![(Member::new(url), way)], config)
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
        #[cfg(feature = "sqlite")]
        if config.semantics == Semantics::ExactlyOnce {
            let group: RemoteDurableMailboxGroup = self.group(urls).await?;
            return self.sender_to(group.members(), config);
        }
        refuse(config.semantics)?;
        let group: RemoteMailboxGroup = self.group(urls).await?;
        self.sender_to(group.members(), config)
    }

    /// A sender of each message to all the mailboxes that are [found](Node::discover) at a multicast group's or a
    /// broadcast address, `udp://239.255.42.1:7400/orders`. Those that answer now are the mailboxes of the sender; each
    /// message goes to each of them by itself.
    ///
    /// # Errors
    /// As [`Node::discover`] and [`Node::group_sender`]. That nobody answers is no error: the sender has no mailbox then, and
    /// what it sends is received by all of none. Ask [`Sender::mailboxes`].
    pub async fn found_sender<T>(
        &self,
        url: impl IntoUrl,
        settings: &Discovery,
        config: SenderConfig,
    ) -> Result<Sender<T>, CallError> {
        #[cfg(feature = "sqlite")]
        if config.semantics == Semantics::ExactlyOnce {
            let urls = self.found_urls::<RemoteDurableMailboxProxy>(url, settings).await?;
            return self.group_sender(urls, config).await;
        }
        let urls = self.found_urls::<RemoteMailboxProxy>(url, settings).await?;
        self.group_sender(urls, config).await
    }

    async fn found_urls<P: Proxy>(
        &self,
        url: impl IntoUrl,
        settings: &Discovery,
    ) -> Result<Vec<Url>, CallError> {
        let mut finding = self.discover_with::<P>(url, settings)?;
        let mut urls = Vec::new();
        while let Some(found) = finding.next().await {
            urls.extend(found.urls.into_iter().next());
        }
        Ok(urls)
    }

    fn sender_to<T>(
        &self,
        members: Vec<Member>,
        config: SenderConfig,
    ) -> Result<Sender<T>, CallError> {
        let mailboxes = members.into_iter().map(|member| {
            let way = match config.semantics {
                #[cfg(feature = "sqlite")]
                Semantics::ExactlyOnce => Way::Durable(self.proxy(member.url())?),
                _ => Way::Memory(self.proxy(member.url())?),
            };
            Ok((member, way))
        });
        Sender::open(self, mailboxes.collect::<Result<_, CallError>>()?, config)
    }
}

/// Messages in memory are no promise that outlives a crash.
fn refuse(semantics: Semantics) -> Result<(), CallError> {
    match semantics {
        Semantics::ExactlyOnce => Err(CallError::NotDurable { method: "send" }),
        _ => Ok(()),
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

#[cfg(test)]
mod tests;
