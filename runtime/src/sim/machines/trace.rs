//! What happened in a run: as a hash always, as lines if they were asked for.

use std::fmt::Write;

use crate::time::Time;

/// The record of one run.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: Option<String>,
}

impl Trace {
    pub(super) fn new(record: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: record.then(String::new) }
    }

    /// Notes that something happened.
    pub(super) fn note(&mut self, now: Time, what: u64, detail: u64) {
        for word in [now.as_nanos(), what, detail] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    /// Whether lines are kept.
    pub(super) fn is_recording(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line, if lines are kept.
    pub(super) fn line(&mut self, now: Time, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let micros = now.as_nanos() / 1000;
            let text = text();
            let time = format!("{}.{:03}ms", micros / 1000, micros % 1000);
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "  {time:>12}  {text}");
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_lines(self) -> String {
        self.lines.unwrap_or_default()
    }
}
