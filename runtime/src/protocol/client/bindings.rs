//! Which objects the client has looked up: a handle for each, told to every new session.
//!
//! The client picks the handle, so that calls can follow LOOKUP without waiting and stay valid over sessions.

use std::sync::Arc;

use super::{Client, Violation};
use crate::descriptor::Descriptor;
use crate::error::{CallError, FailureCode, Refusal};
use crate::id::{Handle, MethodId};
use crate::semantics::{Execution, Semantics};
use crate::wire::frame::{self, BoundResult, Lookup, Verdict};
use crate::wire::send_buffer::SendBuffer;

/// One looked-up object.
#[derive(Debug, Clone)]
pub(super) struct Binding<W> {
    object: Arc<str>,
    expected: Expected,
    state: State,
    waiters: Vec<W>,
    /// Who may call it. Without any its handle is for another object when there are no others left.
    users: u32,
    /// A datagram may bring a call of it late, or once more, and the server would run that.
    lingers: bool,
}

/// What a client expects an object to be.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// An interface that was compiled in.
    Interface(&'static Descriptor),
    /// One method of an interface, by names that were saved with a call.
    #[cfg_attr(
        not(feature = "sqlite"),
        allow(dead_code, reason = "only exactly-once calls are saved")
    )]
    Saved { interface: Arc<str>, method: MethodId, name: Arc<str> },
}

#[derive(Debug, Clone)]
enum State {
    /// LOOKUP is to be sent when a link is up.
    Unasked,
    /// LOOKUP was sent on this link.
    Asked,
    /// The server has it.
    Bound { verdicts: Vec<Verdict>, methods: Box<str> },
    /// The server has not, or it could not be asked.
    Failed(CallError),
    /// Nobody will call it any more; the handle is for another object when no call of it is left, and no answer to its
    /// LOOKUP is on its way.
    Free { asked: bool },
}

impl<W> Client<W> {
    /// A handle for an object, until it is [let go](Self::let_go); asks the server unless it has answered before.
    ///
    /// # Errors
    /// If as many objects are in use as [`Limits::handles`](crate::Limits::handles) allows.
    pub(crate) fn bind(
        &mut self,
        object: &Arc<str>,
        expected: impl Into<Expected>,
        out: &mut SendBuffer,
    ) -> Result<Handle, CallError> {
        let expected = expected.into();
        let same = |binding: &Binding<W>| {
            !matches!(binding.state, State::Free { .. })
                && binding.object == *object
                && binding.expected.is(&expected)
        };
        let index = match self.bindings.iter().position(same) {
            Some(index) => index,
            None => self.add_binding(object.clone(), expected)?,
        };
        let binding = &mut self.bindings[index];
        binding.users += 1;
        if matches!(binding.state, State::Failed(_)) {
            binding.state = State::Unasked;
        }
        self.ask(index, out);
        Ok(index as Handle)
    }

    /// A call of it leaves in a datagram that nothing tells from a copy.
    #[inline]
    pub(super) fn linger(&mut self, handle: Handle) {
        if let Some(binding) = self.bindings.get_mut(handle as usize) {
            binding.lingers = true;
        }
    }

    /// One of those that got the handle from [`bind`](Self::bind) makes no further call.
    pub(crate) fn let_go(&mut self, handle: Handle) {
        if let Some(binding) = self.bindings.get_mut(handle as usize) {
            binding.users = binding.users.saturating_sub(1);
        }
    }

    /// A handle for an object that is called by a reference, and by this one alone.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub(crate) fn bind_passed(
        &mut self,
        object: Arc<str>,
        expected: impl Into<Expected>,
        out: &mut SendBuffer,
    ) -> Result<Handle, CallError> {
        let index = self.add_binding(object, expected.into())?;
        self.bindings[index].users = 1;
        self.ask(index, out);
        Ok(index as Handle)
    }

    /// Nobody will call the object of this handle any more.
    pub(crate) fn unbind(&mut self, handle: Handle) {
        if let Some(binding) = self.bindings.get_mut(handle as usize) {
            let asked = matches!(binding.state, State::Asked);
            binding.state = State::Free { asked };
            if !asked {
                self.free_handles.push_back(handle);
            }
        }
    }

    /// A place for a binding: a new one, or when there are no more the one that is free for the longest time.
    fn add_binding(&mut self, object: Arc<str>, expected: Expected) -> Result<usize, CallError> {
        let (state, waiters) = (State::Unasked, Vec::new());
        let binding = Binding { object, expected, state, waiters, users: 0, lingers: false };
        let most = self.config.limits.handles;
        let mut free = None;
        if self.bindings.len() >= most.min(FRESH_HANDLES) {
            free = self.take_free(HANDLES_TRIED);
            if free.is_none() && self.bindings.len() >= most {
                self.unbind_unused();
                free = Some(self.take_free(usize::MAX).ok_or_else(too_many)?);
            }
        }
        match free {
            Some(index) => self.bindings[index] = binding,
            None => {
                if self.bindings.is_empty() {
                    // Most clients call one object of a server.
                    self.bindings.reserve_exact(1);
                }
                self.bindings.push(binding);
            }
        }
        Ok(free.unwrap_or(self.bindings.len() - 1))
    }

    /// The handle that is free for the longest time, if it is among so many.
    fn take_free(&mut self, tried: usize) -> Option<usize> {
        for _ in 0..self.free_handles.len().min(tried) {
            let handle = self.free_handles.pop_front()?;
            // A call that goes on without its caller may yet be sent again.
            if !self.slots.uses(handle) {
                return Some(handle as usize);
            }
            self.free_handles.push_back(handle);
        }
        None
    }

    /// Frees the handles of all objects that nobody calls any more. A call that goes on without its caller still does, and
    /// asks for its object in the next session.
    fn unbind_unused(&mut self) {
        for handle in 0..self.bindings.len() as Handle {
            let Binding { users, state, lingers, .. } = &self.bindings[handle as usize];
            let kept = *users > 0 || *lingers || matches!(state, State::Free { .. });
            if !kept && !self.slots.uses(handle) {
                self.unbind(handle);
            }
        }
    }

    /// What came of a lookup; if nothing did yet, `wait` adds whom to wake.
    pub(crate) fn bound(
        &mut self,
        handle: Handle,
        wait: impl FnOnce(&mut Vec<W>),
    ) -> Option<Result<(), CallError>> {
        let binding = self.bindings.get_mut(handle as usize)?;
        match &binding.state {
            State::Bound { .. } => Some(Ok(())),
            State::Failed(error) => Some(Err(error.clone())),
            State::Unasked | State::Asked | State::Free { .. } => {
                wait(&mut binding.waiters);
                None
            }
        }
    }

    /// Asks for every object that the session does not know.
    pub(super) fn ask_all(&mut self, new_session: bool, out: &mut SendBuffer) {
        for index in 0..self.bindings.len() {
            let state = &mut self.bindings[index].state;
            match state {
                // Nothing comes on the new link of what was asked on another.
                State::Free { asked } if *asked => {
                    *asked = false;
                    self.free_handles.push_back(index as Handle);
                }
                State::Free { .. } => {}
                State::Asked => *state = State::Unasked,
                _ if new_session => *state = State::Unasked,
                _ => {}
            }
            self.ask(index, out);
        }
    }

    /// No link could be made: whoever waits for a lookup is told.
    pub(super) fn fail_bindings(&mut self, error: &CallError) {
        for binding in &mut self.bindings {
            if !binding.waiters.is_empty() {
                binding.state = State::Failed(error.clone());
                self.woken.append(&mut binding.waiters);
            }
        }
    }

    /// The server's answer to LOOKUP.
    pub(super) fn on_bound(
        &mut self,
        handle: Handle,
        result: &BoundResult<'_>,
    ) -> Result<(), Violation> {
        let Some(binding) = self.bindings.get_mut(handle as usize) else {
            return Err(Violation("BOUND for a handle that was not asked for"));
        };
        if let State::Free { asked } = &mut binding.state {
            if std::mem::take(asked) {
                self.free_handles.push_back(handle);
            }
            return Ok(());
        }
        binding.state = match result {
            BoundResult::Object { verdicts, .. }
                if verdicts.len() != binding.expected.methods() =>
            {
                return Err(Violation("BOUND with a wrong number of methods"));
            }
            BoundResult::Object { verdicts, methods } => State::Bound {
                verdicts: verdicts.clone(),
                methods: FailureCode::printable(methods.as_bytes()),
            },
            BoundResult::Failed { code, text } => {
                let text = FailureCode::printable(text.as_bytes());
                State::Failed(code.into_error(text, Execution::NotExecuted))
            }
        };
        self.woken.append(&mut binding.waiters);
        Ok(())
    }

    /// Whether the server's object has the method, as far as it said.
    #[inline]
    pub(super) fn check_binding(&self, handle: Handle, method: u32) -> Result<(), CallError> {
        match self.bindings.get(handle as usize) {
            Some(Binding { state: State::Bound { verdicts, methods }, expected, .. }) => {
                match verdicts.get(method as usize) {
                    Some(Verdict::Callable) => Ok(()),
                    verdict => Err(no_such_method(expected, method, verdict, methods)),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether a call may name this handle: where frames overtake each other, only once the session's answer is there.
    #[inline]
    pub(super) fn is_known(&self, handle: Handle) -> bool {
        !self.config.datagrams
            || cfg_canary!("calls_do_not_wait_for_lookup")
            || self
                .bindings
                .get(handle as usize)
                .is_none_or(|binding| !matches!(binding.state, State::Unasked | State::Asked))
    }

    /// Whether LOOKUP for this handle waits for its answer.
    pub(super) fn is_asked(&self, handle: Handle) -> bool {
        self.bindings
            .get(handle as usize)
            .is_some_and(|binding| matches!(binding.state, State::Asked))
    }

    fn ask(&mut self, index: usize, out: &mut SendBuffer) {
        let binding = &mut self.bindings[index];
        if !self.link.is_up() || !matches!(binding.state, State::Unasked) {
            return;
        }
        let methods = match &binding.expected {
            Expected::Interface(descriptor) => {
                descriptor.methods.iter().map(|method| (method.id, method.semantics)).collect()
            }
            Expected::Saved { method, .. } => vec![(*method, Semantics::ExactlyOnce)],
        };
        let lookup = Lookup {
            handle: index as Handle,
            object: &binding.object,
            interface: binding.expected.name(),
            methods,
        };
        frame::put_lookup(&lookup, out.small());
        binding.state = State::Asked;
    }
}

impl Expected {
    fn is(&self, other: &Expected) -> bool {
        match (self, other) {
            (Expected::Interface(one), Expected::Interface(other)) => std::ptr::eq(*one, *other),
            (
                Expected::Saved { interface, method, .. },
                Expected::Saved { interface: other_interface, method: other, .. },
            ) => method == other && interface == other_interface,
            _ => false,
        }
    }

    fn name(&self) -> &str {
        match self {
            Expected::Interface(descriptor) => descriptor.name,
            Expected::Saved { interface, .. } => interface,
        }
    }

    fn methods(&self) -> usize {
        match self {
            Expected::Interface(descriptor) => descriptor.methods.len(),
            Expected::Saved { .. } => 1,
        }
    }

    fn signature(&self, method: u32) -> &str {
        match self {
            Expected::Interface(descriptor) => {
                descriptor.methods.get(method as usize).map_or("?", |method| method.signature)
            }
            Expected::Saved { name, .. } => name,
        }
    }
}

impl From<&'static Descriptor> for Expected {
    fn from(descriptor: &'static Descriptor) -> Expected {
        Expected::Interface(descriptor)
    }
}

/// So many handles are used once before one is used again: a frame that named the object before must be long gone.
const FRESH_HANDLES: usize = 1024;
/// Handles that are looked at for one that no call uses any more.
const HANDLES_TRIED: usize = 4;

fn no_such_method(
    expected: &Expected,
    method: u32,
    verdict: Option<&Verdict>,
    methods: &str,
) -> CallError {
    let signature = expected.signature(method);
    let detail = match verdict {
        Some(Verdict::Weaker) => {
            format!(
                "the server promises less for `{signature}` than this interface, or exactly once where this one does \
                 not; it has {methods}"
            )
        }
        _ => format!("`{signature}`; the server's {} has {methods}", expected.name()),
    };
    CallError::NoSuchMethod(Refusal { detail: detail.into(), execution: Execution::NotExecuted })
}

fn too_many() -> CallError {
    CallError::Busy(Refusal {
        detail:
            "too many objects of this server are in use; drop proxies, or raise `Limits::handles`"
                .into(),
        execution: Execution::NotExecuted,
    })
}
