//! Objects of a link's server, under handles that mean them for as long as somebody may call them.

use std::sync::Arc;
use std::task::Poll;

use super::{Link, Phase, add_waker};
use crate::driver::lock;
use crate::error::CallError;
use crate::id::Handle;
use crate::protocol::client::Expected;
use crate::semantics::Execution;

/// A handle that is in use until this is dropped.
pub(crate) struct Use<'a> {
    link: &'a Link,
    handle: Handle,
}

impl Link {
    /// A handle for an object, which the server is asked for when there is a connection. It is to be
    /// [let go](Self::let_go).
    ///
    /// # Errors
    /// Too many objects are in use.
    pub(crate) fn handle(
        &self,
        object: &Arc<str>,
        expected: impl Into<Expected>,
    ) -> Result<Handle, CallError> {
        let expected = expected.into();
        self.update(|_, client, out| client.bind(object, expected, out))
    }

    /// The same for a while.
    pub(crate) fn borrow(
        &self,
        object: &Arc<str>,
        expected: impl Into<Expected>,
    ) -> Result<Use<'_>, CallError> {
        let handle = self.handle(object, expected)?;
        Ok(Use { link: self, handle })
    }

    /// Looks an object up: a handle for it, as of [`handle`](Self::handle), or why there is none.
    pub(crate) async fn bind(
        &self,
        object: &Arc<str>,
        expected: impl Into<Expected>,
    ) -> Result<Handle, CallError> {
        let used = self.borrow(object, expected)?;
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.state);
            match state.client.bound(used.handle, |waiting| add_waker(waiting, cx)) {
                Some(result) => Poll::Ready(result),
                None if state.phase == Phase::Closed => {
                    Poll::Ready(Err(CallError::Closed { execution: Execution::NotExecuted }))
                }
                None => Poll::Pending,
            }
        })
        .await?;
        let handle = used.handle;
        // In use from here on by who gets it.
        std::mem::forget(used);
        Ok(handle)
    }

    /// Who got this handle makes no further call.
    pub(crate) fn let_go(&self, handle: Handle) {
        lock(&self.state).client.let_go(handle);
    }
}

#[cfg(feature = "sqlite")]
impl Use<'_> {
    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.link.let_go(self.handle);
    }
}
