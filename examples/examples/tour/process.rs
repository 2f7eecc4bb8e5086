//! This program as a further process: how the tour holds one, and how one notices that nobody holds it.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A process that is this program in another role. Dropping it kills it and waits for its end.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it, with its input and output in pipes.
    pub(crate) fn start(
        role: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> io::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Process { child: command.spawn()? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says, line by line, until it ends. Each waits: not for an async task.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = io::Result<String>> + Send + use<> {
        self.child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines)
    }

    /// Ends it in the middle of whatever it does, by SIGKILL on Unix: nothing of it runs any more.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Lets it finish what it does and end by itself.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        let patience = Instant::now() + Duration::from_secs(3);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > patience {
                return Err(io::Error::other("a process did not end when it was asked to"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process that was started: waits until nobody holds it any more, whatever became of them.
pub(crate) fn until_nobody_holds_it() {
    // An error is an end as well.
    let mut byte = [0];
    while io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {}
}

/// Says a line to whoever has started this process, whole or not at all.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes())?;
    output.flush()
}
