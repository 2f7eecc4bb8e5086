//! What references need of a session's links: calls that carry them, look-ups of objects without names, and calls back.

use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::Wait;
use super::desk::Desk;
use crate::driver::references::received::Received;
use crate::driver::references::{Home, Partner, Peer};
use crate::driver::session::Cell;
use crate::id::Handle;
use crate::protocol::client::Violation;
use crate::registry::Slot;
use crate::time::Time;
use crate::wire::frame::{Back, Call};
use crate::wire::references::split;

/// Who calls over a link.
#[derive(Clone, Default)]
pub(in crate::driver) enum Scope {
    /// Whoever connects: all names may be asked for.
    #[default]
    Outside,
    /// The server of a link that this node has opened: it calls back, and only what it was handed.
    Back(Arc<Peer>),
    /// This node itself.
    Local,
}

/// The references of the call that is handled just now.
pub(super) struct Passed {
    pub(super) arguments: Bytes,
    pub(super) received: Arc<Received>,
}

impl Scope {
    /// Says it to the session. False if the session is another peer's.
    pub(super) fn settle(&self, cell: &Arc<Cell>) -> bool {
        match self {
            Scope::Outside => true,
            Scope::Local => matches!(cell.partner_or(|| Partner::Local), Partner::Local),
            Scope::Back(peer) => {
                peer.serve(cell);
                match cell.partner_or(|| Partner::Peer(peer.clone())) {
                    Partner::Peer(other) => Arc::ptr_eq(other, peer),
                    Partner::Local => false,
                }
            }
        }
    }
}

impl Desk {
    /// As [`handle_call`](Desk::handle_call), of a call whose arguments have references behind them.
    #[cold]
    pub(in crate::driver) fn handle_passing(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        wait: Wait,
        call: &Call<'_>,
        arguments: Bytes,
    ) -> Result<(), Violation> {
        let unreadable = |_| Violation("a call whose references cannot be read");
        let (payload, list) = split(&arguments).map_err(unreadable)?;
        let Some(home) = self.server.home() else { return Ok(()) };
        let partner = self.partner(&home).clone();
        let received = Received::new(home, &partner, list).map_err(unreadable)?;
        let arguments = arguments.slice(..payload);
        self.passed =
            Some(Box::new(Passed { arguments: arguments.clone(), received: Arc::new(received) }));
        let call = Call { passes: false, arguments: &[], ..*call };
        let handled = self.handle_call(cx, now, wait, &call, Some(arguments));
        // Of a call that was not admitted: a repeat, or one that is refused.
        self.passed = None;
        handled
    }

    /// Who is at the other side.
    fn partner(&self, home: &Arc<dyn Home>) -> &Partner {
        self.cell.partner_or(|| {
            let address = self.context.caller.address.clone();
            Partner::Peer(Peer::accepted(&self.cell, home, address))
        })
    }

    /// What a look-up may find: an object that the peer was handed, or one with a name.
    pub(super) fn resolve(&self, object: &str, handle: Handle) -> Option<Arc<Slot>> {
        let registry = &self.server.registry;
        if let Some(id) = object.strip_prefix(REFERENCE) {
            let id = u64::from_str_radix(id, 16).ok();
            return Some(match id.and_then(|id| Some((id, self.exported(id)?))) {
                Some((id, exported)) => {
                    exported.seen_by(&self.cell, id, handle);
                    exported.slot().clone()
                }
                None => registry.nothing(),
            });
        }
        match self.scope {
            Scope::Back(_) if object != DESK => Some(registry.nothing()),
            _ => registry.resolve(object),
        }
    }

    fn exported(&self, id: u64) -> Option<Arc<crate::driver::references::object::Exported>> {
        match self.cell.partner()? {
            Partner::Peer(peer) => peer.exported(id),
            Partner::Local => self.server.home()?.objects().get(id),
        }
    }

    /// Bytes of the stream on which the peer is the server.
    pub(super) fn handle_back(&self, back: &Back<'_>) -> Result<(), Violation> {
        let state = self.cell.lock();
        let link = state.link.as_ref().filter(|link| link.number == self.link);
        match link.and_then(|link| link.back.0.as_ref()) {
            Some(channel) => channel.receive(back),
            None => Err(Violation("bytes of a stream that was not opened")),
        }
    }
}

/// Objects without names are looked up as this and their ids.
pub(crate) const REFERENCE: &str = "farcall/ref/";
/// The object that references are given back to.
pub(crate) const DESK: &str = "farcall/references";
