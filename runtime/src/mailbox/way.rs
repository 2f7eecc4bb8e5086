//! The way to a mailbox: which remote object it is, and which of its methods carries what is promised.

use std::time::Duration;

use bytes::Bytes;

use super::buffer::Placed;
#[cfg(feature = "sqlite")]
use super::durable::RemoteDurableMailboxProxy;
use super::object::{Batch, NotPut, Put, RemoteMailboxProxy};
use super::pump::wait_ms;
use super::sender::SenderConfig;
use crate::error::CallError;
use crate::semantics::Semantics;

/// A mailbox as its senders see it.
#[derive(Clone)]
pub(super) enum Way {
    /// Its messages are in its owner's memory.
    Memory(RemoteMailboxProxy),
    /// They are in its owner's store.
    #[cfg(feature = "sqlite")]
    Durable(RemoteDurableMailboxProxy),
}

impl Way {
    /// Puts messages in their order, as many as there are places for.
    pub(super) async fn put(
        &self,
        messages: &[Bytes],
        config: &SenderConfig,
    ) -> Result<Put, CallError<NotPut>> {
        let (batch, timeout) = (Batch::of(messages), config.timeout);
        let wait_ms = wait_ms(timeout);
        match (self, config.semantics) {
            #[cfg(feature = "sqlite")]
            (Way::Durable(mailbox), _) => super::durable::keep(mailbox, &batch, timeout).await,
            (Way::Memory(mailbox), Semantics::Maybe) => {
                mailbox.put_once(&batch, wait_ms).timeout(timeout).await
            }
            (Way::Memory(mailbox), Semantics::AtLeastOnce) => {
                mailbox.put_again(&batch, wait_ms).timeout(timeout).await
            }
            (Way::Memory(mailbox), _) => mailbox.put(&batch, wait_ms).timeout(timeout).await,
        }
    }

    /// Whether a message that was put was received; waits for a while until it is.
    pub(super) async fn is_taken(
        &self,
        placed: Placed,
        timeout: Duration,
    ) -> Result<bool, CallError<NotPut>> {
        let Placed { mailbox: id, position, .. } = placed;
        let wait_ms = wait_ms(timeout);
        match self {
            Way::Memory(mailbox) => mailbox.is_taken(id, position, wait_ms).timeout(timeout).await,
            #[cfg(feature = "sqlite")]
            Way::Durable(mailbox) => super::durable::is_taken(mailbox, position, timeout).await,
        }
    }
}
