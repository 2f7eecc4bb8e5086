//! What became of many calls of one semantics: counts, a row of a table, and broken promises.
//!
//! Two sides are compared: what the callers were told, and what the server noted when the method
//! began. Nothing here makes a call; the tour fills the reports.

use farcall::{CallError, Execution, Semantics};

/// How a call ended for its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With the method's result.
    Answered,
    /// With a result that belongs to another call.
    Confused,
    /// With an error that says that the method did not run and never will.
    NotExecuted,
    /// With an error that says that it may have run.
    Unknown,
    /// With an error that says that it ran.
    Executed,
}

/// One call, from both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// The number that the call carried.
    pub call: u64,
    /// What its caller was told.
    pub outcome: Outcome,
    /// How often the server began to run it; of exactly once, how often it took effect.
    pub runs: u64,
}

/// Many calls of one semantics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What the method promised.
    pub semantics: Semantics,
    /// What carried the calls, in three letters.
    pub link: &'static str,
    /// Every call that was made.
    pub fates: Vec<Fate>,
    /// Requests that the client sent again.
    pub resent: u64,
}

impl Outcome {
    /// The outcome that a call's result stands for.
    pub fn of<T, E>(result: &Result<T, CallError<E>>) -> Outcome {
        match result.as_ref().map_err(CallError::execution) {
            Ok(_) => Outcome::Answered,
            Err(Execution::NotExecuted) => Outcome::NotExecuted,
            Err(Execution::Executed) => Outcome::Executed,
            Err(Execution::Unknown) => Outcome::Unknown,
        }
    }
}

impl Report {
    /// The two lines above the rows.
    pub const HEADER: [&str; 2] = [
        "                        |   the caller was told          |   the server ran it     | the client",
        "                  calls | answered unknown not executed  | never  once  repeatedly | sent again",
    ];

    /// One row of the table.
    #[must_use]
    pub fn row(&self) -> String {
        format!(
            "{:<13} {:<3} {:>5} | {:>8} {:>7} {:>12}  | {:>5} {:>5}  {:>10} | {:>10}",
            self.semantics.name(),
            self.link,
            self.fates.len(),
            self.ended(Outcome::Answered),
            self.ended(Outcome::Unknown),
            self.ended(Outcome::NotExecuted),
            self.ran(|runs| runs == 0),
            self.ran(|runs| runs == 1),
            self.ran(|runs| runs > 1),
            self.resent,
        )
    }

    /// A sentence for each promise that was broken, with the first call that shows it.
    #[must_use]
    pub fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut forbid = |what: &str, is_broken: &dyn Fn(&Fate) -> bool| {
            let culprits: Vec<_> = self.fates.iter().filter(|fate| is_broken(fate)).collect();
            if let Some(Fate { call, outcome, runs }) = culprits.first() {
                broken.push(format!(
                    "{} over {}: {} calls {what}; call {call} ended {outcome:?}, runs: {runs}",
                    self.semantics,
                    self.link,
                    culprits.len(),
                ));
            }
        };
        forbid("were answered and never ran", &|fate| {
            fate.outcome == Outcome::Answered && fate.runs == 0
        });
        forbid("were reported as run and never ran", &|fate| {
            fate.outcome == Outcome::Executed && fate.runs == 0
        });
        forbid("were reported as not executed and ran", &|fate| {
            fate.outcome == Outcome::NotExecuted && fate.runs > 0
        });
        forbid("got the answer of another call", &|fate| fate.outcome == Outcome::Confused);
        match self.semantics {
            Semantics::Maybe | Semantics::AtMostOnce => {
                forbid("ran more than once", &|fate| fate.runs > 1);
            }
            Semantics::AtLeastOnce => {
                forbid("were not answered", &|fate| fate.outcome != Outcome::Answered);
                forbid("never ran", &|fate| fate.runs == 0);
            }
            Semantics::ExactlyOnce => {
                forbid("were not answered", &|fate| fate.outcome != Outcome::Answered);
                forbid("did not take effect exactly once", &|fate| fate.runs != 1);
            }
        }
        if self.semantics == Semantics::Maybe && self.resent > 0 {
            let (semantics, link, resent) = (self.semantics, self.link, self.resent);
            broken.push(format!("{semantics} over {link}: {resent} requests were sent again"));
        }
        broken
    }

    fn ended(&self, outcome: Outcome) -> usize {
        self.fates.iter().filter(|fate| fate.outcome == outcome).count()
    }

    fn ran(&self, condition: impl Fn(u64) -> bool) -> usize {
        self.fates.iter().filter(|fate| condition(fate.runs)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(semantics: Semantics, fates: &[(Outcome, u64)], resent: u64) -> Report {
        let fate = |(&(outcome, runs), call)| Fate { call, outcome, runs };
        let fates = fates.iter().zip(1..).map(fate).collect();
        Report { semantics, link: "udp", fates, resent }
    }

    fn broken(semantics: Semantics, fates: &[(Outcome, u64)]) -> String {
        report(semantics, fates, 0).broken_promises().join("\n")
    }

    #[test]
    fn what_each_semantics_allows_breaks_no_promise() {
        use Outcome::{Answered, Executed, NotExecuted, Unknown};
        let once = [(Answered, 1), (Executed, 1), (NotExecuted, 0), (Unknown, 0), (Unknown, 1)];
        assert_eq!(broken(Semantics::Maybe, &once), "");
        assert_eq!(broken(Semantics::AtMostOnce, &once), "");
        assert_eq!(broken(Semantics::AtLeastOnce, &[(Answered, 1), (Answered, 3)]), "");
        assert_eq!(broken(Semantics::ExactlyOnce, &[(Answered, 1), (Answered, 1)]), "");
        assert!(report(Semantics::AtMostOnce, &once, 9).broken_promises().is_empty());
    }

    #[test]
    fn a_second_run_is_broken_but_for_at_least_once() {
        let twice = [(Outcome::Answered, 1), (Outcome::Unknown, 2)];
        let sentence = "1 calls ran more than once; call 2 ended Unknown, runs: 2";
        assert_eq!(broken(Semantics::Maybe, &twice), format!("maybe over udp: {sentence}"));
        assert_eq!(
            broken(Semantics::AtMostOnce, &twice),
            format!("at_most_once over udp: {sentence}")
        );
    }

    #[test]
    fn a_maybe_that_was_sent_again_is_broken() {
        let report = report(Semantics::Maybe, &[(Outcome::Answered, 1)], 2);
        assert_eq!(report.broken_promises(), ["maybe over udp: 2 requests were sent again"]);
    }

    #[test]
    fn an_at_least_once_without_answer_is_broken() {
        let told = broken(Semantics::AtLeastOnce, &[(Outcome::Unknown, 1)]);
        assert!(told.contains("1 calls were not answered"), "{told}");
    }

    #[test]
    fn an_exactly_once_without_answer_or_with_another_number_of_effects_is_broken() {
        let told = broken(Semantics::ExactlyOnce, &[(Outcome::Unknown, 1)]);
        assert!(told.contains("1 calls were not answered"), "{told}");
        for runs in [0, 2] {
            let told = broken(Semantics::ExactlyOnce, &[(Outcome::Answered, runs)]);
            assert!(told.contains("1 calls did not take effect exactly once"), "{told}");
        }
    }

    #[test]
    fn a_word_to_the_caller_that_is_not_true_is_broken() {
        let all = [
            Semantics::Maybe,
            Semantics::AtLeastOnce,
            Semantics::AtMostOnce,
            Semantics::ExactlyOnce,
        ];
        for semantics in all {
            let told = broken(semantics, &[(Outcome::Answered, 0)]);
            assert!(told.contains("answered and never ran"), "{told}");
            let told = broken(semantics, &[(Outcome::Executed, 0)]);
            assert!(told.contains("reported as run and never ran"), "{told}");
            let told = broken(semantics, &[(Outcome::Confused, 1)]);
            assert!(told.contains("got the answer of another call"), "{told}");
            let told = broken(semantics, &[(Outcome::NotExecuted, 1)]);
            assert!(told.contains("reported as not executed and ran"), "{told}");
        }
    }

    #[test]
    fn a_row_stands_below_its_header() {
        let fates = [(Outcome::Answered, 2), (Outcome::Unknown, 0), (Outcome::NotExecuted, 0)];
        let row = report(Semantics::AtLeastOnce, &fates, 7).row();
        let numbers: Vec<&str> = row.split([' ', '|']).filter(|word| !word.is_empty()).collect();
        assert_eq!(numbers, ["at_least_once", "udp", "3", "1", "1", "1", "2", "0", "1", "7"]);
        let bars = |line: &str| line.match_indices('|').map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(bars(&row), bars(Report::HEADER[0]));
        assert_eq!(bars(&row), bars(Report::HEADER[1]));
        assert_eq!(row.len(), Report::HEADER[1].len());
    }
}
