//! The server as a process of its own: what runs in it, and the handle by which the client holds it.
//!
//! The process says its URL on standard output and serves until its standard input ends, so that it
//! cannot outlive the client, whatever becomes of that.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farcall::{Listening, ServeError};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::shop::NotingShop;

/// The first argument of a process that is to be the server.
pub(crate) const ROLE: &str = "serve";

/// A server process. Dropping it kills it and waits for its end.
pub(crate) struct Server {
    process: Child,
    notes: PathBuf,
    url: String,
}

/// Serves in this process: `tour serve NOTES PORT`.
pub(crate) async fn serve(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [notes, port] = arguments else {
        return Err(format!("usage: tour {ROLE} NOTES PORT").into());
    };
    let listening = listen(Path::new(notes), port).await?;
    writeln!(io::stdout(), "{}", listening.url("shop"))?;
    spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink())).await??;
    listening.shutdown(Duration::from_secs(1)).await?;
    Ok(())
}

/// Listens on the port, and tries again for a while if it is taken: between two servers, the system
/// may lend a port to somebody else for a moment.
async fn listen(notes: &Path, port: &str) -> Result<Listening, Box<dyn Error>> {
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        let shop = NotingShop::open(notes)?;
        match farcall::serve(format!("tcp://127.0.0.1:{port}"), "shop", shop).await {
            Err(ServeError::Listen { .. }) if Instant::now() < patience => {
                sleep(Duration::from_millis(20)).await;
            }
            served => return Ok(served?),
        }
    }
}

impl Server {
    /// Starts a server process on a port, 0 for any, and waits until it serves.
    pub(crate) async fn start(notes: PathBuf, port: u16) -> io::Result<Server> {
        let process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .arg(&notes)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // From here on the process is killed if this future is dropped.
        let mut server = Server { process, notes, url: String::new() };
        let output = server.process.stdout.take().map(BufReader::new);
        let said = spawn_blocking(move || {
            let mut line = String::new();
            output.map(|mut output| output.read_line(&mut line)).transpose()?;
            Ok::<_, io::Error>(line.trim().to_owned())
        });
        server.url = said.await.map_err(io::Error::other)??;
        if server.url.is_empty() {
            return Err(io::Error::other("the server process ended before it served"));
        }
        Ok(server)
    }

    /// Where its shop is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The address of its port, out of `tcp://address/shop`.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        let address = self.url.split('/').nth(2).and_then(|address| address.parse().ok());
        address
            .ok_or_else(|| io::Error::other(format!("the server has a strange URL: {}", self.url)))
    }

    /// Kills the process in the middle of whatever it does, and starts another one on its port.
    pub(crate) async fn kill_and_restart(&mut self) -> io::Result<()> {
        let port = self.address()?.port();
        // SIGKILL on Unix: nothing of it runs any more.
        self.process.kill()?;
        self.process.wait()?;
        *self = Server::start(self.notes.clone(), port).await?;
        Ok(())
    }

    /// Lets the process finish what it runs and end by itself.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        drop(self.process.stdin.take());
        let patience = Instant::now() + Duration::from_secs(3);
        while self.process.try_wait()?.is_none() {
            if Instant::now() > patience {
                return Err(io::Error::other("the server did not end when it was asked to"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
