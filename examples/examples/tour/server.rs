//! The server as a process of its own: what runs in it, and the handle by which the client holds it.
//!
//! The process says its URLs on standard output, one for each transport, and serves until its standard
//! input ends, so that it cannot outlive the client, whatever becomes of that.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farcall::{Node, ServeError};
use farcall_tests::service::{TRANSPORTS, Transport};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::shop::NotingShop;

/// The first argument of a process that is to be the server.
pub(crate) const ROLE: &str = "serve";

/// A server process. Dropping it kills it and waits for its end.
pub(crate) struct Server {
    process: Child,
    notes: PathBuf,
    /// In the order of [`TRANSPORTS`].
    urls: [String; 2],
}

/// Serves in this process: `tour serve NOTES TCP_PORT UDP_PORT`.
pub(crate) async fn serve(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [notes, ports @ ..] = arguments else {
        return Err(format!("usage: tour {ROLE} NOTES TCP_PORT UDP_PORT").into());
    };
    let node = Node::builder().build();
    node.registry().bind("shop", NotingShop::open(Path::new(notes))?)?;
    for (transport, port) in TRANSPORTS.into_iter().zip(ports) {
        writeln!(io::stdout(), "{}", listen(&node, transport, port).await?)?;
    }
    spawn_blocking(|| io::copy(&mut io::stdin().lock(), &mut io::sink())).await??;
    node.shutdown(Duration::from_secs(1)).await?;
    Ok(())
}

/// Listens on the port, and tries again for a while if it is taken: between two servers, the system
/// may lend a port to somebody else for a moment. Gives the shop's URL.
async fn listen(node: &Node, transport: Transport, port: &str) -> Result<String, Box<dyn Error>> {
    let patience = Instant::now() + Duration::from_secs(3);
    let place = format!("{}://127.0.0.1:{port}", transport.scheme());
    loop {
        match node.listen(place.as_str()).await {
            Err(ServeError::Listen { .. }) if Instant::now() < patience => {
                sleep(Duration::from_millis(20)).await;
            }
            listening => return Ok(listening?.url("shop").to_string()),
        }
    }
}

impl Server {
    /// Starts a server process on a port for each transport, 0 for any, and waits until it serves.
    pub(crate) async fn start(notes: PathBuf, ports: [u16; 2]) -> io::Result<Server> {
        let process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .arg(&notes)
            .args(ports.map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // From here on the process is killed if this future is dropped.
        let mut server = Server { process, notes, urls: Default::default() };
        let output = server.process.stdout.take().map(BufReader::new);
        let said = spawn_blocking(move || {
            let lines = output.into_iter().flat_map(BufReader::lines).take(2);
            lines.collect::<io::Result<Vec<String>>>()
        });
        let said = said.await.map_err(io::Error::other)??;
        server.urls = said
            .try_into()
            .map_err(|_| io::Error::other("the server process ended before it served"))?;
        Ok(server)
    }

    /// Where its shop is.
    pub(crate) fn url(&self, transport: Transport) -> &str {
        &self.urls[transport as usize]
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The address of its port, out of `tcp://address/shop`.
    pub(crate) fn address(&self, transport: Transport) -> io::Result<SocketAddr> {
        let url = self.url(transport);
        let address = url.split('/').nth(2).and_then(|address| address.parse().ok());
        address.ok_or_else(|| io::Error::other(format!("the server has a strange URL: {url}")))
    }

    /// Kills the process in the middle of whatever it does, and starts another one on its ports.
    pub(crate) async fn kill_and_restart(&mut self) -> io::Result<()> {
        let ports = [self.address(Transport::Tcp)?.port(), self.address(Transport::Udp)?.port()];
        // SIGKILL on Unix: nothing of it runs any more.
        self.process.kill()?;
        self.process.wait()?;
        *self = Server::start(self.notes.clone(), ports).await?;
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
