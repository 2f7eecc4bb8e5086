//! Connections inside one process, by name: `mem://name/object`.
//!
//! The names are the process's, as ports are the machine's; a name is free again when its listener is dropped.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

use super::{Accepting, Listener, Stream};
use crate::address::Address;

type Sender = mpsc::Sender<(DuplexStream, Arc<str>)>;

/// Connects to the node that listens under this name.
pub(super) async fn connect(name: &Arc<str>) -> io::Result<Stream> {
    let sender = names().get(name).cloned();
    let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there");
    let sender = sender.ok_or_else(refused)?;
    let (here, there) = duplex(PIPE_BYTES);
    let peer = format!("mem://{name}#{}", CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    sender.send((there, peer.into())).await.map_err(|_| refused())?;
    Ok(Stream::Other(Box::new(here)))
}

/// Takes the name.
pub(super) fn listen(name: &Arc<str>) -> io::Result<Box<dyn Listener>> {
    let mut names = names();
    if names.contains_key(name) {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "the name is taken"));
    }
    let (sender, receiver) = mpsc::channel(BACKLOG);
    names.insert(name.clone(), sender);
    Ok(Box::new(Memory { name: name.clone(), receiver }))
}

struct Memory {
    name: Arc<str>,
    receiver: mpsc::Receiver<(DuplexStream, Arc<str>)>,
}

impl Listener for Memory {
    fn address(&self) -> Address {
        Address::Memory(self.name.clone())
    }

    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            match self.receiver.recv().await {
                Some((stream, peer)) => Ok((Stream::Other(Box::new(stream)), peer)),
                None => std::future::pending().await,
            }
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        names().remove(&self.name);
    }
}

fn names() -> MutexGuard<'static, HashMap<Arc<str>, Sender>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

static NAMES: std::sync::LazyLock<Mutex<HashMap<Arc<str>, Sender>>> =
    std::sync::LazyLock::new(Mutex::default);
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Bytes on their way in one direction.
const PIPE_BYTES: usize = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;
