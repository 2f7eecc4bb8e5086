//! Connections that cross no network: of a node to itself, and inside a link.

use std::any::Any;
use std::io;
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::object::Objects;
use super::{HOME, Home, Peer};
use crate::address::Address;
use crate::context::Flag;
use crate::driver::server::Server;
use crate::driver::serving::{self, Scope};
use crate::driver::session::Cell;
use crate::id::NodeId;
use crate::limits::Limits;
use crate::transport::{Binding, Connecting, Network, Opening, Side, Stream, no_such_kind};

/// Stands for a node where there is none.
pub(in crate::driver) fn nobody() -> Weak<dyn Home> {
    Weak::<Nobody>::new()
}

enum Nobody {}

impl Home for Nobody {
    fn runtime(&self) -> Option<Handle> {
        match *self {}
    }
    fn id(&self) -> NodeId {
        match *self {}
    }
    fn server(&self) -> &Arc<Server> {
        match *self {}
    }
    fn objects(&self) -> &Objects {
        match *self {}
    }
    fn closing(&self) -> Arc<Flag> {
        match *self {}
    }
    fn tend(&self, _peer: Arc<Peer>) {
        match *self {}
    }
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The network of a node that calls itself.
pub(super) struct Loop {
    pub(super) server: Weak<Server>,
}

impl Network for Loop {
    fn connect<'a>(&'a self, _address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let server = self.server.upgrade().ok_or(io::ErrorKind::NotConnected)?;
            let (here, there) = tokio::io::duplex(PIPE_BYTES);
            let stream = Stream::Other(Box::new(there));
            serving::spawn_in(&server, stream, HOME.into(), Scope::Local);
            Ok(Stream::Other(Box::new(here)))
        })
    }

    fn listen<'a>(&'a self, _address: &'a Address) -> Opening<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }

    fn datagrams<'a>(&'a self, _: &'a Address, _: Side, _: &'a Limits) -> Binding<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }
}

/// The network of calls back: one stream inside the link that the session has.
pub(super) struct Inside {
    pub(super) cell: Weak<Cell>,
    pub(super) attached: Arc<Notify>,
}

impl Network for Inside {
    fn connect<'a>(&'a self, _address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            loop {
                let attached = self.attached.notified();
                let mut attached = std::pin::pin!(attached);
                attached.as_mut().enable();
                let Some(cell) = self.cell.upgrade() else {
                    return Err(io::ErrorKind::NotConnected.into());
                };
                if let Some(pipe) = cell.open_back() {
                    return Ok(Stream::Other(Box::new(pipe)));
                }
                drop(cell);
                attached.await;
            }
        })
    }

    fn listen<'a>(&'a self, _address: &'a Address) -> Opening<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }

    fn datagrams<'a>(&'a self, _: &'a Address, _: Side, _: &'a Limits) -> Binding<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }
}

/// Bytes that wait inside a node that calls itself.
const PIPE_BYTES: usize = 64 << 10;
