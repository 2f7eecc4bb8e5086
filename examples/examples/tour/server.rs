//! The server as a process of its own: what runs in it, and the handle by which the tour holds it.
//!
//! The process says its URLs on standard output, one for each transport, and serves until its standard
//! input ends, so that it cannot outlive the tour, whatever becomes of that.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farcall::{Node, ServeError, SqliteStore};
use farcall_tests::service::{TRANSPORTS, Transport};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::process::{Process, say, until_nobody_holds_it};
use super::shop::{self, NotingDepot, NotingShop};

/// The first argument of a process that is to be the server.
pub(crate) const ROLE: &str = "serve";

/// A server process. Dropping it kills it and waits for its end.
pub(crate) struct Server {
    process: Process,
    folder: PathBuf,
    /// Of the shop, in the order of [`TRANSPORTS`].
    urls: [String; 2],
}

/// Serves in this process: `tour serve FOLDER TCP_PORT UDP_PORT`.
pub(crate) async fn serve(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [folder, ports @ ..] = arguments else {
        return Err(format!("usage: tour {ROLE} FOLDER TCP_PORT UDP_PORT").into());
    };
    let folder = Path::new(folder);
    let store = SqliteStore::open(folder.join(DATABASE))?;
    shop::prepare(&store).await?;
    let node = Node::builder().store(store).build();
    node.registry().bind("shop", NotingShop::open(&folder.join(NOTES))?)?;
    node.registry().bind("depot", NotingDepot)?;
    for (transport, port) in TRANSPORTS.into_iter().zip(ports) {
        say(&listen(&node, transport, port).await?)?;
    }
    spawn_blocking(until_nobody_holds_it).await?;
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
    /// Starts a server process on a port for each transport, 0 for any, and waits until it serves. Its notes and its
    /// database are in the folder.
    pub(crate) async fn start(folder: &Path, ports: [u16; 2]) -> io::Result<Server> {
        let ports = ports.map(|port| port.to_string().into());
        let process = Process::start(ROLE, [folder.into()].into_iter().chain(ports))?;
        // From here on the process is killed if this future is dropped.
        let mut server =
            Server { process, folder: folder.to_owned(), urls: <[String; 2]>::default() };
        let lines = server.process.lines();
        let said = spawn_blocking(move || lines.take(2).collect::<io::Result<Vec<String>>>());
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

    /// Kills the process in the middle of whatever it does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts another process on its ports.
    pub(crate) async fn start_again(&mut self) -> io::Result<()> {
        let ports = [self.address(Transport::Tcp)?.port(), self.address(Transport::Udp)?.port()];
        *self = Server::start(&self.folder, ports).await?;
        Ok(())
    }

    /// Lets the process finish what it runs and end by itself.
    pub(crate) async fn stop(self) -> io::Result<()> {
        self.process.stop().await
    }
}

/// Files in the server's folder: where the shop notes the calls that it runs, and the depot's database.
pub(crate) const NOTES: &str = "runs";
pub(crate) const DATABASE: &str = "depot.db";
