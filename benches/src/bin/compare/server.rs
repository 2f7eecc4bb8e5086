//! Servers, on a thread or in a process of their own, and processes that hold idle connections.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::options::Options;
use crate::system::Entry;

/// A server.
pub(crate) struct Server {
    pub(crate) address: String,
    process: Option<Process>,
}

impl Server {
    pub(crate) fn start(entry: &Entry, options: &Options) -> Server {
        if options.processes {
            return Server::start_process(entry, options);
        }
        Server { address: entry.start(options.server_core()), process: None }
    }

    pub(crate) fn start_process(entry: &Entry, options: &Options) -> Server {
        let mut process = Process::start(&["--serve", entry.name], options);
        let address = process.line().expect("the server starts");
        Server { address, process: Some(process) }
    }

    /// Its number, if it is a process.
    pub(crate) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }
}

/// Serves another process of this program, until that ends or closes our input.
pub(crate) fn serve(entry: &Entry, core: usize) {
    println!("{}", entry.start(core));
    std::io::stdout().flush().expect("the parent reads");
    let _ = std::io::stdin().lock().lines().next();
}

/// A process that holds connections.
pub(crate) struct Idle {
    process: Process,
    told: bool,
}

impl Idle {
    pub(crate) fn start(entry: &Entry, address: &str, options: &Options) -> Idle {
        let process = Process::start(&["--idle", entry.name, address], options);
        Idle { process, told: false }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Waits until there are more connections; how many. Nothing when there will not be.
    pub(crate) fn next_count(&mut self) -> Option<usize> {
        if self.told {
            self.process.input.as_mut()?.write_all(b"\n").ok()?;
        }
        self.told = true;
        self.process.line()?.parse().ok()
    }
}

/// This program once more.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str], options: &Options) -> Process {
        let program = std::env::current_exe().expect("this program has a file");
        let mut child = Command::new(program)
            .args(arguments)
            .args(options.shared())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts again");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Process { child, input, output }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.output.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends with its input, and takes its files with it.
        self.input = None;
        let _ = self.child.wait();
    }
}
