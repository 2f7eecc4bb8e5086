//! What the command line asks for.

use std::path::PathBuf;
use std::time::Duration;

use crate::system::Entry;
use crate::systems::farcall::AT_MOST_ONCE;

/// The options; see the top of the program.
pub(crate) struct Options {
    pub(crate) passes: usize,
    pub(crate) span: Duration,
    pub(crate) quick: bool,
    pub(crate) two_cores: bool,
    pub(crate) processes: bool,
    pub(crate) json: bool,
    pub(crate) write: Option<PathBuf>,
    /// The system that this process serves for another.
    pub(crate) serve: Option<String>,
    /// The system and its address, if this process opens connections for another.
    pub(crate) idle: Option<(String, String)>,
    only: Vec<String>,
    cases: Vec<String>,
}

impl Options {
    pub(crate) fn parse() -> Options {
        let arguments: Vec<String> = std::env::args().collect();
        let position = |name: &str| arguments.iter().position(|argument| argument == name);
        let value = |name: &str, behind: usize| {
            position(name).and_then(|at| arguments.get(at + behind)).cloned()
        };
        let number = |name: &str| value(name, 1).and_then(|text| text.parse::<u64>().ok());
        let list = |name: &str| {
            let text = value(name, 1).unwrap_or_default();
            text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let quick = position("--quick").is_some();
        let (passes, millis) = if quick { (3, 80) } else { (5, 300) };
        Options {
            passes: number("--passes").unwrap_or(passes) as usize,
            span: Duration::from_millis(number("--ms").unwrap_or(millis)),
            quick,
            two_cores: position("--two-cores").is_some(),
            processes: position("--processes").is_some(),
            json: position("--json").is_some(),
            write: value("--write", 1).map(PathBuf::from),
            serve: value("--serve", 1),
            idle: value("--idle", 1).zip(value("--idle", 2)),
            only: list("--only"),
            cases: list("--case"),
        }
    }

    /// Where a server runs.
    pub(crate) fn server_core(&self) -> usize {
        usize::from(self.two_cores)
    }

    /// How many connections there are, at each look.
    pub(crate) fn idle_counts(&self) -> [usize; 3] {
        if self.quick { [16, 216, 1_016] } else { [16, 1_016, 10_016] }
    }

    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| entry.name.contains(part))
    }

    /// Whether farcall is among the systems, of which alone some cases are.
    pub(crate) fn wants_farcall(&self) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| AT_MOST_ONCE.contains(part.as_str()))
    }

    pub(crate) fn wants_case(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|case| case == name)
    }
}
