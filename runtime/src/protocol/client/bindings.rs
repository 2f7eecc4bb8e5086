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
    /// A handle for an object; asks the server unless it has answered before.
    ///
    /// # Errors
    /// If as many objects were looked up as [`Limits::handles`](crate::Limits::handles) allows.
    pub(crate) fn bind(
        &mut self,
        object: &Arc<str>,
        expected: impl Into<Expected>,
        out: &mut SendBuffer,
    ) -> Result<Handle, CallError> {
        let expected = expected.into();
        let same =
            |binding: &Binding<W>| binding.object == *object && binding.expected.is(&expected);
        let index = match self.bindings.iter().position(same) {
            Some(index) => index,
            None => self.add_binding(object.clone(), expected)?,
        };
        if matches!(self.bindings[index].state, State::Failed(_)) {
            self.bindings[index].state = State::Unasked;
        }
        self.ask(index, out);
        Ok(index as Handle)
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
        let binding = Binding { object, expected, state: State::Unasked, waiters: Vec::new() };
        if self.bindings.len() < self.config.limits.handles.min(FRESH_HANDLES) {
            self.bindings.push(binding);
            return Ok(self.bindings.len() - 1);
        }
        for _ in 0..self.free_handles.len().min(HANDLES_TRIED) {
            let Some(handle) = self.free_handles.pop_front() else { break };
            // A call that goes on without its caller may yet be sent again.
            if self.slots.uses(handle) {
                self.free_handles.push_back(handle);
                continue;
            }
            let index = handle as usize;
            self.bindings[index] = binding;
            return Ok(index);
        }
        if self.bindings.len() < self.config.limits.handles {
            self.bindings.push(binding);
            return Ok(self.bindings.len() - 1);
        }
        Err(too_many())
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
        detail: "too many objects of this server were looked up; raise `Limits::handles`".into(),
        execution: Execution::NotExecuted,
    })
}
