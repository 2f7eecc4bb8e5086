//! The calls of a run: what is asked of a method, what its caller does meanwhile, and what the caller is told.

use std::time::Duration;

use super::plan::Plan;
use crate::descriptor::{Descriptor, MethodDescriptor};
use crate::error::{CallError, FailureCode};
use crate::id::MethodId;
use crate::protocol::client::Key;
use crate::semantics::Semantics;
use crate::sim::rng::Rng;
use crate::time::Time;
use crate::wire::frame::ReplyStatus;

/// One call, as its caller sees it.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) client: usize,
    pub(super) task: Task,
    pub(super) timeout: Option<Duration>,
    pub(super) patience: Patience,
    /// Its name in the client's machine, once that took it and until it has ended.
    pub(super) key: Option<Key>,
    pub(super) began: Time,
    /// Cancelled or dropped.
    pub(super) given_up: bool,
    /// The caller has its answer, or no longer asks for one.
    pub(super) ended: bool,
    /// What had happened to its client and server when it was made.
    pub(super) before: Past,
}

/// What the method is asked to do; travels as the call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) call: u32,
    pub(super) semantics: Semantics,
    pub(super) oneway: bool,
    pub(super) behaviour: Behaviour,
    /// How long the handler takes; 0 is ready at once.
    pub(super) handler_us: u32,
    /// Size of arguments and result in bytes.
    pub(super) arguments: u32,
    pub(super) result: u32,
}

/// How the method ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Returns,
    Fails,
    Panics,
    /// The server refuses it most of the time, as one does whose objects come and go.
    Refusable,
}

/// What the caller does while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Takes the answer when it is there.
    Prompt,
    /// Takes it so many microseconds later.
    Late(u64),
    /// Cancels after so many microseconds, and takes what comes.
    Cancels(u64),
    /// Drops the call after so many microseconds.
    Drops(u64),
    /// Wants no answer.
    Detaches,
}

/// What happened so far to a client and its server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) crashes: u64,
    pub(super) expiries: u64,
    pub(super) cuts: u64,
    pub(super) drains: u64,
}

impl Made {
    /// The next call of a client.
    pub(super) fn draw(call: u32, client: usize, plan: &Plan, rng: &mut Rng) -> Made {
        let semantics = rng.pick(plan.semantics);
        let large = rng.chance(plan.large);
        let size = |rng: &mut Rng, large: bool| match (large, &plan.trouble) {
            (false, _) => rng.below(40) as u32,
            (true, None) => rng.between(70_000, 200_000) as u32,
            (true, Some(_)) => rng.spread(400, 100_000) as u32,
        };
        let large_result = rng.chance(plan.large);
        let odd = rng.chance(plan.odd);
        let task = Task {
            call,
            semantics,
            oneway: semantics == Semantics::Maybe && rng.chance(300),
            behaviour: match rng.below(3) {
                0 if odd => Behaviour::Fails,
                1 if odd => Behaviour::Panics,
                2 if odd => Behaviour::Refusable,
                _ => Behaviour::Returns,
            },
            handler_us: if rng.chance(500) { 0 } else { rng.spread(1, plan.handler_us) as u32 },
            arguments: size(rng, large),
            result: size(rng, large_result),
        };
        let wait = rng.spread(10, 3_000_000);
        let patience = match rng.below(3) {
            0 if rng.chance(plan.give_ups) => Patience::Cancels(wait),
            1 if rng.chance(plan.give_ups) => Patience::Drops(wait),
            2 if rng.chance(plan.give_ups) => Patience::Detaches,
            _ if rng.chance(100) => Patience::Late(wait),
            _ => Patience::Prompt,
        };
        let timeout =
            rng.chance(plan.deadlines).then(|| Duration::from_micros(rng.spread(10, 4_000_000)));
        // What is lost of it ends the call at its deadline only.
        let over_datagrams = plan.trouble.is_some() && semantics == Semantics::Maybe;
        let timeout = timeout.or(over_datagrams.then_some(Duration::from_secs(4)));
        Made {
            client,
            task,
            timeout,
            patience,
            key: None,
            began: Time::ZERO,
            given_up: false,
            ended: false,
            before: Past::default(),
        }
    }
}

impl Task {
    /// Position of the method in [`INTERFACE`].
    pub(super) fn method(&self) -> u32 {
        match self.semantics {
            Semantics::Maybe if self.oneway => 3,
            Semantics::Maybe => 0,
            Semantics::AtLeastOnce => 1,
            _ => 2,
        }
    }

    /// Whether its frames are in pieces.
    pub(super) fn is_large(&self) -> bool {
        self.arguments > 60_000 || self.result > 60_000
    }

    pub(super) fn to_arguments(self) -> Vec<u8> {
        let behaviour = match self.behaviour {
            Behaviour::Returns => 0,
            Behaviour::Fails => 1,
            Behaviour::Panics => 2,
            Behaviour::Refusable => 3,
        };
        let mut bytes = vec![behaviour];
        for word in [self.call, self.handler_us, self.arguments, self.result] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.resize(bytes.len() + self.arguments as usize, self.call as u8);
        bytes
    }

    /// The task that arguments carry, if they arrived as they were sent.
    pub(super) fn from_arguments(method: u32, bytes: &[u8]) -> Option<Task> {
        let (&behaviour, rest) = bytes.split_first()?;
        let word = |index: usize| {
            let bytes = rest.get(4 * index..4 * index + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let task = Task {
            call: word(0)?,
            semantics: INTERFACE.methods.get(method as usize)?.semantics,
            oneway: INTERFACE.methods.get(method as usize)?.oneway,
            behaviour: match behaviour {
                0 => Behaviour::Returns,
                1 => Behaviour::Fails,
                2 => Behaviour::Panics,
                3 => Behaviour::Refusable,
                _ => return None,
            },
            handler_us: word(1)?,
            arguments: word(2)?,
            result: word(3)?,
        };
        let whole = bytes.len() == 17 + task.arguments as usize;
        (whole && bytes.last() == task.to_last().as_ref()).then_some(task)
    }

    fn to_last(self) -> Option<u8> {
        if self.arguments > 0 { Some(self.call as u8) } else { Some(self.result as u8) }
    }

    /// What the handler brings.
    pub(super) fn outcome(&self, run: u32) -> (ReplyStatus, Vec<u8>) {
        let status = match self.behaviour {
            Behaviour::Fails => ReplyStatus::MethodError,
            Behaviour::Panics => {
                return (ReplyStatus::Failed(FailureCode::Panicked), b"boom".to_vec());
            }
            Behaviour::Returns | Behaviour::Refusable => ReplyStatus::Ok,
        };
        let mut body = self.call.to_be_bytes().to_vec();
        body.extend_from_slice(&run.to_be_bytes());
        body.resize(8 + self.result as usize, run as u8);
        (status, body)
    }

    /// Which run an answer is of; `None` if it is not an answer to this task.
    pub(super) fn run_of(&self, error: bool, body: &[u8]) -> Option<u32> {
        let (call, rest) = body.split_first_chunk()?;
        let (run, filler) = rest.split_first_chunk()?;
        let run = u32::from_be_bytes(*run);
        let right = u32::from_be_bytes(*call) == self.call
            && filler.len() == self.result as usize
            && filler.last().is_none_or(|&byte| byte == run as u8)
            && error == (self.behaviour == Behaviour::Fails);
        right.then_some(run)
    }

    /// Whether an error is one that the task asked for.
    pub(super) fn asked_for(&self, error: &CallError) -> bool {
        match error {
            CallError::BadArguments(_) => self.behaviour == Behaviour::Refusable,
            CallError::Panicked { .. } => self.behaviour == Behaviour::Panics,
            _ => false,
        }
    }
}

const fn method(
    name: &'static str,
    id: u32,
    semantics: Semantics,
    oneway: bool,
) -> MethodDescriptor {
    MethodDescriptor {
        name,
        id: MethodId(id),
        signature: name,
        docs: "",
        semantics,
        oneway,
        spawn: false,
        timeout: None,
        max_reply: None,
    }
}

/// What the simulated objects can do.
pub(super) static INTERFACE: Descriptor = Descriptor {
    name: "Simulated",
    methods: &[
        method("maybe", 1, Semantics::Maybe, false),
        method("at_least_once", 2, Semantics::AtLeastOnce, false),
        method("at_most_once", 3, Semantics::AtMostOnce, false),
        method("oneway", 4, Semantics::Maybe, true),
    ],
};
