//! The slab of a client's calls: slots and their buffers are used again.

use bytes::Bytes;

use super::NewCall;
use crate::error::CallError;
use crate::id::{Handle, Seq};
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::body::Body;

/// Names a call while it is unfinished or its answer is not taken; a slot that was used again has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) index: u32,
    generation: u32,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The slot holds no call.
    Free,
    /// To be encoded.
    Queued,
    /// Encoded on some link.
    Sent,
    /// Given up by the caller; the server is asked what it made of the call.
    Resolving(Why),
    /// The answer is there.
    Done,
}

/// Why a call was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Deadline,
    Cancelled,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Ok,
    MethodError,
    Failed(CallError),
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Slot<W> {
    generation: u32,
    pub(super) state: State,
    /// Its number in the session; 0 until it is first encoded.
    pub(super) seq: Seq,
    pub(super) semantics: Semantics,
    pub(super) oneway: bool,
    /// References stand behind its arguments.
    pub(super) passes: bool,
    /// Nobody will take the answer.
    pub(super) abandoned: bool,
    /// It may have left on a link before the present one.
    pub(super) sent_before: bool,
    /// How often it was encoded.
    pub(super) attempt: u32,
    /// The link on which it was encoded last, and where it ends among that link's small frames.
    pub(super) link: u64,
    pub(super) position: u64,
    pub(super) handle: Handle,
    pub(super) method: u32,
    pub(super) began: Time,
    pub(super) deadline: Time,
    pub(super) resolve_until: Time,
    /// The encoded arguments, kept for sending them again.
    pub(super) request: Vec<u8>,
    /// They, instead, where they are a large message's.
    pub(super) large_request: Option<Box<Body>>,
    pub(super) answer: Option<Answer>,
    pub(super) body: Vec<u8>,
    /// The answer's bytes, instead of `body`, where they came in fragments.
    pub(super) large_body: Option<Bytes>,
    pub(super) waiter: Option<W>,
}

/// All slots of a client.
#[derive(Debug, Clone)]
pub(super) struct Slots<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
}

impl<W> Default for Slots<W> {
    fn default() -> Slots<W> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }
}

impl<W> Slots<W> {
    /// A slot for a call, queued.
    #[inline]
    pub(super) fn take(&mut self, now: Time, deadline: Time, call: &NewCall<'_>) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::empty());
            // The window bounds the slots far below `u32::MAX`.
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.state = State::Queued;
        slot.seq = 0;
        slot.semantics = call.semantics;
        slot.oneway = call.oneway;
        slot.passes = call.passes;
        slot.abandoned = false;
        slot.sent_before = false;
        slot.attempt = 0;
        slot.handle = call.handle;
        slot.method = call.method;
        slot.began = now;
        slot.deadline = deadline;
        slot.request.extend_from_slice(call.arguments);
        slot.large_request = call.large.cloned().map(Box::new);
        Key { index, generation: slot.generation }
    }

    /// The call of this name.
    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Slot<W>> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    /// The slot at a position that this machine noted itself.
    pub(super) fn at(&self, index: u32) -> Option<&Slot<W>> {
        self.slots.get(index as usize)
    }

    /// The slot at a position that this machine noted itself.
    #[inline]
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Slot<W>> {
        self.slots.get_mut(index as usize)
    }

    /// The name of the call in a slot.
    pub(super) fn key(&self, index: u32) -> Option<Key> {
        self.at(index).map(|slot| Key { index, generation: slot.generation })
    }

    /// Forgets a call; its buffers stay unless they are large.
    #[inline]
    pub(super) fn release(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        slot.answer = None;
        slot.waiter = None;
        slot.large_request = None;
        slot.large_body = None;
        for buffer in [&mut slot.request, &mut slot.body] {
            buffer.clear();
            if buffer.capacity() > KEPT_CAPACITY {
                *buffer = Vec::new();
            }
        }
        self.free.push(index);
    }

    /// Whether an unfinished call names this handle.
    pub(super) fn uses(&self, handle: Handle) -> bool {
        let live = |slot: &Slot<W>| !matches!(slot.state, State::Free | State::Done);
        self.slots.iter().any(|slot| slot.handle == handle && live(slot))
    }

    /// The slots of unfinished calls, oldest first.
    pub(super) fn unfinished(&self) -> Vec<u32> {
        let live = |slot: &Slot<W>| !matches!(slot.state, State::Free | State::Done);
        let mut indices: Vec<u32> = (0..self.slots.len() as u32)
            .filter(|&index| live(&self.slots[index as usize]))
            .collect();
        // Calls with a number were started before those without.
        indices.sort_by_key(|&index| {
            let slot = &self.slots[index as usize];
            (slot.seq == 0, slot.seq, slot.began)
        });
        indices
    }
}

impl<W> Slot<W> {
    /// Whether a copy of the request may have reached the server.
    pub(super) fn may_have_been_sent(&self) -> bool {
        self.sent_before || self.attempt > 0
    }

    /// Bytes of the encoded arguments.
    #[inline]
    pub(super) fn request_bytes(&self) -> usize {
        self.large_request.as_ref().map_or(self.request.len(), |body| body.len())
    }

    /// Bytes of the answer.
    #[inline]
    pub(super) fn body_bytes(&self) -> usize {
        self.large_body.as_ref().map_or(self.body.len(), |body| body.len())
    }

    fn empty() -> Slot<W> {
        Slot {
            generation: 0,
            state: State::Free,
            seq: 0,
            semantics: Semantics::Maybe,
            oneway: false,
            passes: false,
            abandoned: false,
            sent_before: false,
            attempt: 0,
            link: 0,
            position: 0,
            handle: 0,
            method: 0,
            began: Time::ZERO,
            deadline: Time::NEVER,
            resolve_until: Time::NEVER,
            request: Vec::new(),
            large_request: None,
            answer: None,
            body: Vec::new(),
            large_body: None,
            waiter: None,
        }
    }
}

/// Capacity in bytes that an unused slot's buffers keep.
const KEPT_CAPACITY: usize = 4096;
