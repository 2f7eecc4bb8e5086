//! Knows what really ran, and holds every answer against it.
//!
//! A simulation tells it of each call, of each start of a method, and of what each caller was told; it says at once when
//! a promise is broken. It never sees the protocol: the same oracle judges the machines alone, the whole stack, and a
//! user's own service.

use std::fmt;

use crate::semantics::{Execution, Semantics};

/// The truth about all calls of a run.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    calls: Vec<Ghost>,
    counts: Counts,
}

/// A call, as the oracle names it: by the order in which calls were made, from 0.
pub type CallNumber = usize;

/// What a caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The method's result or its own error, and which run it is of, from 1, as far as the answer shows it.
    Answer {
        /// The run that gave it.
        run: Option<u32>,
    },
    /// A one-way call was handed over; that it ran was not said.
    HandedOver,
    /// No answer, and what is known of the execution.
    Failed(Execution),
    /// Nothing: the caller no longer asks.
    Nothing,
}

/// What happened to a call that excuses a failure of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Excuses {
    /// The server crashed since the call was made.
    pub crash: bool,
    /// The server gave up the client's session since the call was made.
    pub expiry: bool,
    /// The call's deadline passed, or its caller cancelled or dropped it.
    pub given_up: bool,
    /// A link was lost since the call was made.
    pub cut: bool,
    /// The server was shutting down.
    pub drain: bool,
    /// The server was told to refuse the call, or was at a limit.
    pub refusal: bool,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The invariant's name in the protocol's page.
    pub invariant: &'static str,
    /// Which call, and what happened.
    pub what: String,
}

/// How often things happened, so that a test can see that its runs are not empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were made.
    pub calls: u64,
    /// Starts of methods.
    pub starts: u64,
    /// Answers.
    pub answers: u64,
    /// Failures after which the method is known not to have run.
    pub not_executed: u64,
    /// Failures after which it is known to have run.
    pub executed: u64,
    /// Failures after which nothing is known.
    pub unknown: u64,
    /// Of these, the ones whose method had run or ran later.
    pub unknown_ran: u64,
    /// At-least-once calls that ran more than once.
    pub repeated: u64,
}

/// What is known of one call.
#[derive(Debug, Clone)]
struct Ghost {
    semantics: Semantics,
    oneway: bool,
    starts: u32,
    told: Option<Told>,
}

impl Oracle {
    /// A call is about to be made.
    pub fn call(&mut self, semantics: Semantics, oneway: bool) -> CallNumber {
        self.counts.calls += 1;
        self.calls.push(Ghost { semantics, oneway, starts: 0, told: None });
        self.calls.len() - 1
    }

    /// The method starts for this call; gives the number of the run, from 1.
    ///
    /// # Errors
    /// If it must not: it ran before under a semantics that allows one run, or its caller was told that it did not run.
    pub fn start(&mut self, number: CallNumber) -> Result<u32, Broken> {
        let Some(ghost) = self.calls.get_mut(number) else {
            return Err(broken("I3", format!("call {number} was never made and runs")));
        };
        ghost.starts += 1;
        self.counts.starts += 1;
        if ghost.starts > 1 && ghost.semantics == Semantics::AtLeastOnce {
            self.counts.repeated += u64::from(ghost.starts == 2);
        } else if ghost.starts > 1 {
            let promise = ghost.semantics;
            let what = format!("call {number} under {promise} runs for the {}. time", ghost.starts);
            return Err(broken("I1", what));
        }
        match ghost.told {
            Some(Told::Failed(Execution::NotExecuted)) => {
                let what = format!("call {number} runs after its caller was told that it did not");
                Err(broken("I2", what))
            }
            Some(Told::Failed(Execution::Unknown)) => {
                self.counts.unknown_ran += u64::from(ghost.starts == 1);
                Ok(ghost.starts)
            }
            _ => Ok(ghost.starts),
        }
    }

    /// The caller is told this.
    ///
    /// # Errors
    /// If it is not true, or if nothing that happened to the call excuses it.
    pub fn told(&mut self, number: CallNumber, told: Told, excuses: Excuses) -> Result<(), Broken> {
        let Some(ghost) = self.calls.get_mut(number) else {
            return Err(broken("I3", format!("call {number} was never made and ended")));
        };
        if ghost.told.is_some() {
            return Err(broken("I3", format!("call {number} ended twice")));
        }
        ghost.told = Some(told);
        match told {
            Told::Answer { .. } => self.counts.answers += 1,
            Told::HandedOver | Told::Nothing => {}
            Told::Failed(Execution::NotExecuted) => self.counts.not_executed += 1,
            Told::Failed(Execution::Executed) => self.counts.executed += 1,
            Told::Failed(Execution::Unknown) => {
                self.counts.unknown += 1;
                self.counts.unknown_ran += u64::from(ghost.starts > 0);
            }
        }
        ghost.check_truth(number)?;
        ghost.check_excuse(number, excuses)
    }

    /// The caller dropped the call, or never wanted an answer.
    pub fn let_go(&mut self, number: CallNumber) {
        if let Some(ghost) = self.calls.get_mut(number) {
            ghost.told.get_or_insert(Told::Nothing);
        }
    }

    /// All is delivered and every server lives: each call must have ended.
    ///
    /// # Errors
    /// If a call has not.
    pub fn finish(&self) -> Result<(), Broken> {
        match self.calls.iter().position(|ghost| ghost.told.is_none()) {
            Some(number) => Err(broken("I14", format!("call {number} never ended"))),
            None => Ok(()),
        }
    }

    /// How often the method started for this call.
    #[must_use]
    pub fn starts(&self, number: CallNumber) -> u32 {
        self.calls.get(number).map_or(0, |ghost| ghost.starts)
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl Ghost {
    /// I2 and I3: what was told is so.
    fn check_truth(&self, number: CallNumber) -> Result<(), Broken> {
        let starts = self.starts;
        match self.told {
            Some(Told::Failed(Execution::NotExecuted)) if starts > 0 => {
                Err(broken("I2", format!("call {number} is told that it did not run, and it did")))
            }
            Some(Told::Answer { .. } | Told::Failed(Execution::Executed)) if starts == 0 => {
                Err(broken("I3", format!("call {number} is told that it ran, and it did not")))
            }
            Some(Told::Answer { run: Some(run) }) if run == 0 || run > starts => {
                Err(broken("I3", format!("call {number} has the answer of a run that was not")))
            }
            Some(Told::HandedOver) if !self.oneway => {
                Err(broken("I3", format!("call {number} ended without an answer")))
            }
            _ => Ok(()),
        }
    }

    /// I4 and I5: a failure has a reason.
    fn check_excuse(&self, number: CallNumber, excuses: Excuses) -> Result<(), Broken> {
        let semantics = self.semantics;
        let (invariant, excused) = match self.told {
            Some(Told::Failed(Execution::Unknown)) => match semantics {
                // A crash or a cut is no excuse: it is sent again.
                Semantics::AtLeastOnce => {
                    ("I5", excuses.given_up || excuses.refusal || excuses.drain)
                }
                Semantics::Maybe => ("I4", excuses.given_up || excuses.cut || excuses.crash),
                _ => ("I4", excuses.given_up || excuses.crash || excuses.expiry),
            },
            Some(Told::Failed(Execution::NotExecuted)) => {
                ("I4", excuses.given_up || excuses.refusal || excuses.drain)
            }
            _ => ("I4", true),
        };
        if excused {
            return Ok(());
        }
        let what =
            format!("call {number} under {semantics} failed as {:?} without cause", self.told);
        Err(broken(invariant, what))
    }
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        self.calls += other.calls;
        self.starts += other.starts;
        self.answers += other.answers;
        self.not_executed += other.not_executed;
        self.executed += other.executed;
        self.unknown += other.unknown;
        self.unknown_ran += other.unknown_ran;
        self.repeated += other.repeated;
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

pub(crate) fn broken(invariant: &'static str, what: impl Into<String>) -> Broken {
    Broken { invariant, what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCUSED: Excuses = Excuses {
        crash: true,
        expiry: true,
        given_up: true,
        cut: true,
        drain: true,
        refusal: true,
    };

    fn invariant(outcome: Result<impl Sized, Broken>) -> &'static str {
        outcome.err().map_or("none", |broken| broken.invariant)
    }

    #[test]
    fn a_second_run_breaks_maybe_and_at_most_once_only() {
        let mut oracle = Oracle::default();
        for (semantics, expected) in [
            (Semantics::Maybe, "I1"),
            (Semantics::AtLeastOnce, "none"),
            (Semantics::AtMostOnce, "I1"),
        ] {
            let call = oracle.call(semantics, false);
            assert_eq!(oracle.start(call), Ok(1));
            assert_eq!(invariant(oracle.start(call)), expected, "{semantics}");
        }
        assert_eq!(oracle.counts().repeated, 1);
    }

    #[test]
    fn a_run_before_or_after_not_executed_breaks_it() {
        let mut oracle = Oracle::default();
        let told = Told::Failed(Execution::NotExecuted);
        let (before, after) =
            (oracle.call(Semantics::AtMostOnce, false), oracle.call(Semantics::AtMostOnce, false));
        assert_eq!(oracle.start(before), Ok(1));
        assert_eq!(invariant(oracle.told(before, told, EXCUSED)), "I2");
        assert_eq!(oracle.told(after, told, EXCUSED), Ok(()));
        assert_eq!(invariant(oracle.start(after)), "I2");
    }

    #[test]
    fn an_answer_without_its_run_is_broken() {
        let mut oracle = Oracle::default();
        let call = oracle.call(Semantics::AtMostOnce, false);
        assert_eq!(invariant(oracle.finish()), "I14");
        let told = Told::Answer { run: Some(1) };
        assert_eq!(invariant(oracle.told(call, told, EXCUSED)), "I3");
        assert_eq!(invariant(oracle.told(call, told, EXCUSED)), "I3");
        assert_eq!(oracle.finish(), Ok(()));
    }

    #[test]
    fn a_cut_excuses_unknown_under_maybe_only() {
        let cut = Excuses { cut: true, ..Excuses::default() };
        for (semantics, expected) in [
            (Semantics::Maybe, "none"),
            (Semantics::AtLeastOnce, "I5"),
            (Semantics::AtMostOnce, "I4"),
        ] {
            let mut oracle = Oracle::default();
            let call = oracle.call(semantics, false);
            let told = Told::Failed(Execution::Unknown);
            assert_eq!(invariant(oracle.told(call, told, cut)), expected, "{semantics}");
        }
    }
}
