//! The sender's end: messages that were posted and have not arrived everywhere yet.
//!
//! Each message leaves when it has an end at every mailbox. So the buffer never holds more than the slowest mailbox has
//! left, and never more than its places. Every wait is of the senders; the pumps take what is there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};

use super::error::SendError;
use crate::driver::lock;

/// Where a message was put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    /// The mailbox's own number.
    pub(super) mailbox: u64,
    pub(super) position: u64,
    /// Whether it was received already.
    pub(super) taken: bool,
}

/// What became of a message at one mailbox, for who sends it.
pub(super) type Told = (usize, Result<Placed, SendError>);

pub(super) struct Buffer {
    pub(super) places: Semaphore,
    state: Mutex<State>,
    moved: Notify,
}

/// How far the messages of a sender are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// Messages that were ever posted.
    pub(super) posted: u64,
    /// Messages that have left: the number of the first that has not.
    pub(super) gone: u64,
    /// No more will be posted.
    pub(super) closed: bool,
}

struct State {
    messages: VecDeque<Message>,
    flow: Flow,
    lost: Option<(u64, SendError)>,
}

struct Message {
    bytes: Bytes,
    /// Mailboxes where it has no end yet.
    left: usize,
    /// Who waits for it to be received.
    sender: Option<mpsc::Sender<Told>>,
    /// Whether it was noted as lost.
    lost: bool,
}

impl Buffer {
    pub(super) fn new(places: usize) -> Arc<Buffer> {
        let flow = Flow { posted: 0, gone: 0, closed: false };
        let state = State { messages: VecDeque::new(), flow, lost: None };
        Arc::new(Buffer {
            places: Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)),
            state: Mutex::new(state),
            moved: Notify::new(),
        })
    }

    /// Adds a message in its place.
    ///
    /// # Errors
    /// [`SendError::Closed`]: nobody would carry it. The place may have been taken before that.
    pub(super) fn push(
        &self,
        place: SemaphorePermit<'_>,
        bytes: Bytes,
        mailboxes: usize,
        sender: Option<mpsc::Sender<Told>>,
    ) -> Result<(), SendError> {
        let mut state = lock(&self.state);
        if state.flow.closed {
            return Err(SendError::Closed);
        }
        if mailboxes == 0 {
            state.flow.gone += 1;
        } else {
            place.forget();
            let message = Message { bytes, left: mailboxes, sender, lost: false };
            state.messages.push_back(message);
        }
        state.flow.posted += 1;
        drop(state);
        self.moved.notify_waiters();
        Ok(())
    }

    /// Messages from this number on, so many bytes and messages at most but one at least, if there is one. A message that
    /// somebody waits for is the last: its position is told.
    pub(super) fn batch(&self, from: u64, most: usize, bytes: usize) -> Vec<Bytes> {
        let state = lock(&self.state);
        let skip = usize::try_from(from.saturating_sub(state.flow.gone)).unwrap_or(usize::MAX);
        let mut batch: Vec<Bytes> = Vec::new();
        let mut length = 0;
        for message in state.messages.iter().skip(skip) {
            length += length_in_batch(&message.bytes);
            if !batch.is_empty() && (length > bytes || batch.len() >= most) {
                break;
            }
            batch.push(message.bytes.clone());
            if message.sender.is_some() {
                break;
            }
        }
        batch
    }

    /// So many messages from this number on have an end at this mailbox.
    pub(super) fn end(
        &self,
        mailbox: usize,
        from: u64,
        count: usize,
        end: &Result<Placed, SendError>,
    ) {
        let mut state = lock(&self.state);
        let State { messages, flow, lost } = &mut *state;
        let skip = usize::try_from(from.saturating_sub(flow.gone)).unwrap_or(usize::MAX);
        for message in messages.iter_mut().skip(skip).take(count) {
            message.left = message.left.saturating_sub(1);
            match (&message.sender, end) {
                // Who does not wait any more has an end of its own.
                (Some(sender), end) => drop(sender.try_send((mailbox, end.clone()))),
                (None, Err(error)) if !message.lost => {
                    message.lost = true;
                    lost.get_or_insert_with(|| (0, error.clone())).0 += 1;
                }
                (None, _) => {}
            }
        }
        let mut left = Vec::new();
        while messages.front().is_some_and(|message| message.left == 0) {
            left.extend(messages.pop_front());
            flow.gone += 1;
        }
        drop(state);
        self.places.add_permits(left.len());
        self.moved.notify_waiters();
    }

    /// How far the messages are.
    pub(super) fn flow(&self) -> Flow {
        lock(&self.state).flow
    }

    /// Waits until the messages are so far.
    pub(super) async fn until(&self, mut so_far: impl FnMut(Flow) -> bool) -> Flow {
        loop {
            // Enlisted before the look: what happens in between is not missed.
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let flow = self.flow();
            if so_far(flow) {
                return flow;
            }
            moved.await;
        }
    }

    /// What was posted and did not arrive, once.
    pub(super) fn take_lost(&self) -> Result<(), SendError> {
        match lock(&self.state).lost.take() {
            None => Ok(()),
            Some((messages, first)) => Err(SendError::Lost { messages, first: Box::new(first) }),
        }
    }

    /// Nothing more is posted; what was posted still leaves.
    pub(super) fn close(&self) {
        self.places.close();
        lock(&self.state).flow.closed = true;
        self.moved.notify_waiters();
    }
}

/// Bytes that a message takes of a batch, at most: its own, and where it ends.
pub(super) fn length_in_batch(message: &Bytes) -> usize {
    message.len() + END_BYTES
}

/// An end is an `u32` of variable length.
const END_BYTES: usize = 5;
