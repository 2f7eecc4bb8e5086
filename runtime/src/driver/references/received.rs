//! The references of one message: those that came, and those that leave.

use std::any::Any;
use std::sync::Arc;

use super::{Home, Partner, Peer};
use crate::driver::references::object::Exported;
use crate::protocol::references::Record;
use crate::wire::payload::passed::{Incoming, Passed};
use crate::wire::references::{Entry, Malformed, entries};

/// An object of a peer, held here as long as this is.
pub(crate) struct Import {
    pub(crate) peer: Arc<Peer>,
    pub(crate) id: u64,
    /// The peer's session at the time: in another, the id means nothing.
    epoch: u64,
}

/// A reference that came.
#[derive(Clone)]
pub(crate) enum Arrived {
    /// An object of the sender, without a name.
    Import { import: Arc<Import>, interface: Arc<str> },
    /// An object of this node that came home.
    Own(Arc<Exported>),
    /// An object that the sender has under a name.
    Named { object: Arc<str>, interface: Arc<str> },
    /// An object that this node has under a name.
    OwnNamed { object: Arc<str>, interface: Arc<str> },
    /// What this node has passed to itself.
    Kept(Arc<dyn Any + Send + Sync>),
    /// It came too late, or is of nothing that the sender was handed.
    Dead,
}

/// The references that came with one message, by their places. They are held as long as this is.
pub(crate) struct Received {
    pub(crate) home: Arc<dyn Home>,
    pub(crate) partner: Partner,
    arrived: Vec<Arrived>,
}

/// A reference on its way to the proxy that it becomes.
pub(crate) struct Taken {
    pub(crate) home: Arc<dyn Home>,
    pub(crate) partner: Partner,
    pub(crate) arrived: Arrived,
}

/// What holds the references of a message that leaves, until it is finished.
#[derive(Default)]
pub(crate) struct Pins {
    /// Records of objects that were exported.
    records: Vec<Record>,
    peer: Option<Arc<Peer>>,
    /// What the node passes to itself.
    numbers: Vec<u64>,
    home: Option<Arc<dyn Home>>,
    /// What else must be there until then.
    held: Vec<Passed>,
}

impl Received {
    /// Reads a list, and holds what came.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn new(
        home: Arc<dyn Home>,
        partner: &Partner,
        list: &[u8],
    ) -> Result<Received, Malformed> {
        let mut arrived = Vec::new();
        for entry in entries(list)? {
            arrived.push(arrive(&home, partner, &entry));
        }
        Ok(Received { home, partner: partner.clone(), arrived })
    }

    fn taken(&self, arrived: &Arrived) -> Taken {
        let (home, partner) = (self.home.clone(), self.partner.clone());
        Taken { home, partner, arrived: arrived.clone() }
    }
}

/// The objects of this node, for who was given their names in what was saved.
#[cfg(feature = "sqlite")]
pub(crate) struct ByName(pub(crate) Arc<dyn Home>);

#[cfg(feature = "sqlite")]
impl Incoming for ByName {
    fn get(&self, _place: u32) -> Option<Passed> {
        None
    }

    fn named(&self, object: &str, interface: &str) -> Option<Passed> {
        let arrived = Arrived::OwnNamed { object: object.into(), interface: interface.into() };
        Some(Box::new(Taken { home: self.0.clone(), partner: Partner::Local, arrived }))
    }
}

fn arrive(home: &Arc<dyn Home>, partner: &Partner, entry: &Entry<'_>) -> Arrived {
    match (partner, *entry) {
        (Partner::Peer(peer), Entry::Exported { id, mark, interface }) => {
            match peer.receive(Record { id, mark }) {
                Some(epoch) => {
                    let import = Arc::new(Import { peer: peer.clone(), id, epoch });
                    Arrived::Import { import, interface: interface.into() }
                }
                None => Arrived::Dead,
            }
        }
        (Partner::Peer(peer), Entry::Yours { id }) => {
            peer.exported(id).map_or(Arrived::Dead, Arrived::Own)
        }
        (Partner::Peer(peer), Entry::Named { object, interface }) if peer.is_dialled() => {
            Arrived::Named { object: object.into(), interface: interface.into() }
        }
        // Who was dialled knows its names; who dials may not be asked for those that it has not passed.
        (Partner::Peer(peer), Entry::YourNamed { object, interface }) if !peer.is_dialled() => {
            Arrived::OwnNamed { object: object.into(), interface: interface.into() }
        }
        (Partner::Local, Entry::Kept { number }) => {
            home.objects().kept(number).map_or(Arrived::Dead, Arrived::Kept)
        }
        _ => Arrived::Dead,
    }
}

impl Incoming for Received {
    fn get(&self, place: u32) -> Option<Passed> {
        let arrived = self.arrived.get(place as usize)?;
        Some(Box::new(self.taken(arrived)))
    }
}

impl Pins {
    pub(crate) fn record(&mut self, peer: &Arc<Peer>, record: Record) {
        self.records.push(record);
        self.peer.get_or_insert_with(|| peer.clone());
    }

    pub(crate) fn number(&mut self, home: &Arc<dyn Home>, number: u64) {
        self.numbers.push(number);
        self.home.get_or_insert_with(|| home.clone());
    }

    pub(crate) fn hold(&mut self, held: Passed) {
        self.held.push(held);
    }

    /// The bug that counts them again when their message is sent again.
    #[cfg(farcall_canary)]
    pub(in crate::driver) fn count_again(&self) {
        self.peer.iter().for_each(|peer| peer.count_again(&self.records));
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            peer.ended(&self.records);
        }
        if let Some(home) = &self.home {
            self.numbers.iter().for_each(|number| home.objects().forget(*number));
        }
    }
}

impl Import {
    /// Whether it came in the session that is counted so.
    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.peer.unhold(self.id, self.epoch);
    }
}
