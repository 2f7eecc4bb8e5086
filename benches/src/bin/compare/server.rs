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
            return Server::start_process(entry, options.server_core());
        }
        Server { address: entry.start(options.server_core()), process: None }
    }

    /// In a process of its own, pinned to this core.
    pub(crate) fn start_process(entry: &Entry, core: usize) -> Server {
        let mut arguments = vec!["--serve", entry.name];
        if core > 0 {
            arguments.push("--two-cores");
        }
        let mut process = Process::start(&arguments);
        let address = process.line().expect("the server starts");
        Server { address, process: Some(process) }
    }

    /// Its number, if it is a process.
    pub(crate) fn process(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Bytes by which the heap of its process has grown since it was asked last.
    pub(crate) fn heap(&mut self) -> Option<f64> {
        let process = self.process.as_mut()?;
        process.input.as_mut()?.write_all(b"\n").ok()?;
        process.line()?.parse().ok()
    }
}

/// Serves another process of this program, until that ends or closes our input. Each line asks for the heap.
pub(crate) fn serve(entry: &Entry, core: usize) {
    let (mut text, questions, answers) = entry.start_asked(core);
    let mut lines = std::io::stdin().lock().lines();
    loop {
        println!("{text}");
        std::io::stdout().flush().expect("the parent reads");
        if lines.next().is_none() || questions.send(()).is_err() {
            return;
        }
        let Ok(answer) = answers.recv() else { return };
        text = answer;
    }
}

/// A process that holds connections.
pub(crate) struct Idle {
    process: Process,
    told: bool,
}

impl Idle {
    pub(crate) fn start(entry: &Entry, address: &str, options: &Options) -> Idle {
        let quick = options.quick.then_some("--quick");
        let arguments: Vec<&str> =
            ["--idle", entry.name, address].into_iter().chain(quick).collect();
        let process = Process::start(&arguments);
        Idle { process, told: false }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Waits until there are more connections; how many, and by how many bytes the heap has grown. Nothing when there
    /// will not be.
    pub(crate) fn next_count(&mut self) -> Option<(usize, f64)> {
        if self.told {
            self.process.input.as_mut()?.write_all(b"\n").ok()?;
        }
        self.told = true;
        let line = self.process.line()?;
        let (count, heap) = line.split_once(' ')?;
        Some((count.parse().ok()?, heap.parse().ok()?))
    }
}

/// This program once more.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Process {
        let program = std::env::current_exe().expect("this program has a file");
        let mut child = Command::new(program)
            .args(arguments)
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
