//! The figures to reach, and where others are ahead.

use std::fmt::Write as _;

use crate::report::{Report, number};
use crate::systems;
use crate::systems::farcall::AT_MOST_ONCE as CALL;

/// A figure to reach: a value, over another one or alone.
struct Goal {
    what: &'static str,
    value: Of,
    over: Option<Of>,
    bound: Bound,
}

/// The values of a system, of which there may be several to be added.
type Of = (&'static str, &'static [&'static str]);

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost};

const BARE: &str = "bare tcp";
const DATAGRAMS: &str = "farcall at-most-once udp";
const MAYBE: &str = "farcall maybe tcp";
const BUSY: &str = "farcall busy polling tcp";

const fn ratio(what: &'static str, value: Of, over: Of, bound: Bound) -> Goal {
    Goal { what, value, over: Some(over), bound }
}

const fn alone(what: &'static str, value: Of, bound: Bound) -> Goal {
    Goal { what, value, over: None, bound }
}

#[rustfmt::skip]
const GOALS: &[Goal] = &[
    ratio("one call, p50, over bare ping-pong", (CALL, &["one call, p50"]), (BARE, &["one call, p50"]), AtMost(1.10)),
    ratio("one call over UDP, p50, over bare TCP ping-pong", (DATAGRAMS, &["one call, p50"]), (BARE, &["one call, p50"]), AtMost(1.15)),
    ratio("64 in flight, calls/s over bare frames", (CALL, &["64 in flight"]), (BARE, &["64 in flight"]), AtLeast(0.50)),
    ratio("64 in flight, CPU time over tarpc's", (CALL, &["64 in flight, CPU"]), ("tarpc", &["64 in flight, CPU"]), AtMost(0.18)),
    ratio("1,024 in flight, calls/s over tarpc's", (CALL, &["1,024 in flight"]), ("tarpc", &["1,024 in flight"]), AtLeast(12.0)),
    ratio("16 connections of 64, calls/s over tarpc's", (CALL, &["16 connections of 64"]), ("tarpc", &["16 connections of 64"]), AtLeast(8.0)),
    ratio("UDP, 64 in flight, calls/s over bare UDP", (DATAGRAMS, &["64 in flight"]), ("bare udp", &["64 in flight"]), AtLeast(12.0)),
    ratio("at most once over maybe, p50 of one call", (CALL, &["one call, p50"]), (MAYBE, &["one call, p50"]), AtMost(1.04)),
    ratio("at most once over maybe, CPU time with 64 in flight", (CALL, &["64 in flight, CPU"]), (MAYBE, &["64 in flight, CPU"]), AtMost(1.13)),
    alone("allocations of a call, 64 in flight", (CALL, &["64 in flight, allocations"]), AtMost(1.0)),
    alone("bytes on the wire of one call", (CALL, &["one call, wire"]), AtMost(40.0)),
    alone("segments of a call, 64 in flight", (CALL, &["64 in flight, packets"]), AtMost(0.04)),
    alone("context switches of a call, 64 in flight", (CALL, &["64 in flight, context switches"]), AtMost(0.04)),
    ratio("echo of 1 KiB, bytes/s over bare frames", (CALL, &["echo of 1 KiB"]), (BARE, &["echo of 1 KiB"]), AtLeast(0.75)),
    ratio("echo of 64 KiB, bytes/s over bare frames", (CALL, &["echo of 64 KiB"]), (BARE, &["echo of 64 KiB"]), AtLeast(0.60)),
    ratio("echo of 1 MiB, bytes/s over bare frames", (CALL, &["echo of 1 MiB"]), (BARE, &["echo of 1 MiB"]), AtLeast(0.90)),
    ratio("two processes, busy polling, p50 over bare ping-pong", (BUSY, &["two processes, p50"]), (BARE, &["two processes, p50"]), AtMost(0.2)),
    ratio("p99 beside messages of 16 MiB over p99 alone", (CALL, &["beside 16 MiB, p99"]), (CALL, &["one call, p99"]), AtMost(3.0)),
    ratio("UDP goodput at 0.1 % loss over none", (DATAGRAMS, &["goodput, 0.1 % lost"]), (DATAGRAMS, &["goodput, 0 % lost"]), AtLeast(0.8)),
    ratio("UDP goodput at 1 % loss over none", (DATAGRAMS, &["goodput, 1 % lost"]), (DATAGRAMS, &["goodput, 0 % lost"]), AtLeast(0.4)),
    alone("heap of an idle connection, both sides, KiB", (CALL, HEAP), AtMost(12.0)),
    alone("the same over UDP, KiB", (DATAGRAMS, HEAP), AtMost(24.0)),
    alone("three times overload, goodput over peak", (CALL, &["overload, goodput of peak"]), AtLeast(0.8)),
    alone("three times overload, known not to have run, % of the rest", (CALL, &["overload, not executed"]), AtLeast(100.0)),
];

const HEAP: &[&str] = &["idle connection, client's heap", "idle connection, server's heap"];

impl Goal {
    fn measured(&self, report: &Report) -> Option<f64> {
        let sum = |(system, values): Of| -> Option<Vec<f64>> {
            let mut all = values.iter().map(|value| report.samples(system, value));
            let first = all.next()??.to_vec();
            all.try_fold(first, |sum, next| {
                Some(sum.iter().zip(next?).map(|(one, other)| one + other).collect())
            })
        };
        let values = sum(self.value)?;
        let Some(over) = self.over else { return Report::middle(values) };
        let over = sum(over)?;
        // In the same pass, and of that the middle.
        let ratios = values.iter().zip(&over).map(|(value, over)| value / over);
        Report::middle(ratios.collect())
    }

    fn row(&self, report: &Report) -> String {
        let bound = match self.bound {
            AtMost(bound) => format!("≤ {bound}"),
            AtLeast(bound) => format!("≥ {bound}"),
        };
        let (measured, reached) = match self.measured(report) {
            None => ("not measured".to_owned(), "-"),
            Some(measured) => {
                (number(measured), if self.is_reached(measured) { "yes" } else { "**no**" })
            }
        };
        format!("| {} | {bound} | {measured} | {reached} |", self.what)
    }

    /// As far as two decimals go.
    fn is_reached(&self, measured: f64) -> bool {
        let measured = (measured * 100.0).round() / 100.0;
        match self.bound {
            AtMost(bound) => measured <= bound,
            AtLeast(bound) => measured >= bound,
        }
    }
}

/// A table of all goals.
pub(crate) fn table(report: &Report) -> String {
    let mut text = "| | goal | measured | reached |\n|---|---|---|---|\n".to_owned();
    for goal in GOALS {
        let _ = writeln!(text, "{}", goal.row(report));
    }
    text
}

/// What is closer than this is even.
const EVEN: f64 = 1.01;

/// A list of all in which another framework, or a goal, is ahead.
pub(crate) fn losses(report: &Report) -> String {
    let mut text = String::new();
    for goal in GOALS {
        if let Some(measured) = goal.measured(report)
            && !goal.is_reached(measured)
        {
            let (word, bound) = match goal.bound {
                AtMost(bound) => ("at most", bound),
                AtLeast(bound) => ("at least", bound),
            };
            let measured = number(measured);
            let _ = writeln!(text, "- {}: {measured}, the goal is {word} {bound}.", goal.what);
        }
    }
    for (value, unit) in report.values() {
        let Some(ours) = report.middle_of(CALL, value) else { continue };
        let more_is_better = matches!(unit, "calls/s" | "MB/s" | "Mbit/s");
        for peer in systems::ALL.iter().filter(|entry| entry.is_peer()) {
            let Some(theirs) = report.middle_of(peer.name, value) else { continue };
            let ahead = if more_is_better { theirs / ours } else { ours / theirs };
            if ahead > EVEN {
                let [ours, theirs] = [ours, theirs].map(number);
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                let _ =
                    writeln!(text, "- {value}: {} {theirs}{unit}, {CALL} {ours}{unit}.", peer.name);
            }
        }
    }
    if text.is_empty() { "Nowhere in this run.\n".to_owned() } else { text }
}
