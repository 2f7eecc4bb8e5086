//! What the command line asks for.

use std::time::Duration;

use crate::cases;
use crate::report::Page;
use crate::system::Entry;
use crate::systems::{self, farcall::AT_MOST_ONCE};

/// The options; see the top of the program.
pub(crate) struct Options {
    pub(crate) passes: usize,
    pub(crate) span: Duration,
    pub(crate) quick: bool,
    pub(crate) two_cores: bool,
    pub(crate) processes: bool,
    pub(crate) json: bool,
    pub(crate) help: bool,
    pub(crate) write: Option<Page>,
    /// The system that this process serves for another.
    pub(crate) serve: Option<String>,
    /// The system and its address, if this process opens connections for another.
    pub(crate) idle: Option<(String, String)>,
    only: Vec<String>,
    cases: Vec<String>,
}

/// What `--help` says, before the names of the cases.
const USAGE: &str = "\
Measures farcall beside bare sockets and beside its peers.

  --quick         shorter, under two minutes; what is slow is measured once
  --passes N      how often each system is measured in each case; 5, or 3 if quick
  --ms N          for how many milliseconds; 300, or 80 if quick
  --only A,B      systems whose names have one of these parts: tarpc,farcall
  --case A,B      cases, of those below
  --two-cores     the server has a core of its own; else both sides share one, the quiet
                  measure of work per call
  --processes     the server is another process; else another thread
  --json          one object for each result, a line each
  --write FOLDER  tables between the markers of performance.md there, and plots beside it

Cases:";

/// What `--help` says.
pub(crate) fn usage() -> String {
    cases::ALL.iter().fold(USAGE.to_owned(), |usage, case| usage + " " + case.name)
}

impl Options {
    /// # Errors
    /// What to print if the arguments ask for nothing that can be measured.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut passes, mut millis) = (None, None);
        let mut options = Options {
            passes: 0,
            span: Duration::ZERO,
            quick: false,
            two_cores: false,
            processes: false,
            json: false,
            help: false,
            write: None,
            serve: None,
            idle: None,
            only: Vec::new(),
            cases: Vec::new(),
        };
        let mut arguments = arguments.skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match &*argument {
                "--quick" => options.quick = true,
                "--two-cores" => options.two_cores = true,
                "--processes" => options.processes = true,
                "--json" => options.json = true,
                "--passes" => passes = Some(number(&argument, &value()?)?),
                "--ms" => millis = Some(number(&argument, &value()?)?),
                "--write" => options.write = Some(Page::read(value()?.into())?),
                "--serve" => options.serve = Some(value()?),
                "--idle" => options.idle = Some((value()?, value()?)),
                "--only" => options.only = list(&value()?),
                "--case" => options.cases = list(&value()?),
                "--help" | "-h" => options.help = true,
                other => return Err(format!("{other} is no option\n\n{}", usage())),
            }
        }
        let is_case = |name: &String| cases::ALL.iter().any(|case| case.name == *name);
        if let Some(name) = options.cases.iter().find(|name| !is_case(name)) {
            return Err(format!("{name} is no case\n\n{}", usage()));
        }
        let is_system = |part: &String| systems::ALL.iter().any(|entry| entry.name.contains(part));
        if let Some(part) = options.only.iter().find(|part| !is_system(part)) {
            let names: Vec<_> = systems::ALL.iter().map(|entry| entry.name).collect();
            return Err(format!("{part} is in no system's name: {}", names.join(", ")));
        }
        let (most, long) = if options.quick { (3, 80) } else { (5, 300) };
        options.passes = passes.unwrap_or(most) as usize;
        options.span = Duration::from_millis(millis.unwrap_or(long));
        Ok(options)
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

fn number(option: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{option} needs a number, and {text} is none"))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
