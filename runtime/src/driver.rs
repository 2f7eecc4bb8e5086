//! The real loop: runs the machines of the protocol on tokio, over streams.
//!
//! One task for each connection reads a batch of frames, lets the machine handle them, and writes all that came of it
//! at once. Only here is a clock read, a task spawned, a random number drawn.

pub(crate) mod announce;
mod back;
pub(crate) mod bundle;
mod busy;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod datagram;
#[cfg(feature = "sqlite")]
pub(crate) mod durable;
mod ends;
pub(crate) mod entropy;
mod handles;
mod input;
pub(crate) mod link;
mod output;
pub(crate) mod park;
pub(crate) mod references;
pub(crate) mod server;
pub(crate) mod serving;
mod session;
mod timer;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// Locks; a panic under a lock of ours is our bug, and leaves the state as good as it was.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a future gives, unless `stop` ends first.
pub(crate) async fn unless<T>(stop: impl Future, future: impl Future<Output = T>) -> Option<T> {
    let (mut stop, mut future) = (pin!(stop), pin!(future));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => stop.as_mut().poll(cx).map(|_| None),
    })
    .await
}
