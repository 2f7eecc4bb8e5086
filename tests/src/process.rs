//! A program of the tests that serves one URL: it says which on its first line, and ends with its standard input.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::service::within;

/// A running server process; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Process {
    /// Starts one, and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(program: &str, arguments: &[&(dyn AsRef<OsStr> + Sync)]) -> Process {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let output = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let line = within("the URL", lines.next_line()).await.expect("it is text");
        Process { child, url: line.expect("it listens") }
    }

    /// SIGKILL, and its end.
    ///
    /// # Panics
    /// If it has ended before.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it was running");
    }
}
