//! Identities: who calls, which run of a server, which session, which call, which method.
//!
//! Plain values without behaviour; every layer uses them. Random ones are drawn by the driver (or by the simulator
//! from its seed) and passed in.

use std::fmt;

use uuid::Uuid;

/// One run of a process that uses farcall: drawn at random when a [`Node`](crate::Node) is built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) Uuid);

/// One run of a server. A restarted server has another boot, which fences all calls of the run before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot(pub(crate) u64);

/// What one boot of a server keeps for one client. The server draws it; it is never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

/// Number of a call in its session, from 1, never used twice in a session.
pub(crate) type Seq = u64;

/// Position of a proxy's object in the session's table; the client picks it.
pub(crate) type Handle = u32;

/// Which method of an interface: a hash of its name and signature, the same on every build.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(pub u32);

/// The full name of a call: no other call, of any client or any run of the server, has the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The run of the server.
    pub boot: Boot,
    /// The session of the calling client.
    pub session: SessionId,
    /// The number of the call in its session, from 1.
    pub seq: u64,
}

/// One store of durable calls: drawn at random when its file is made.
#[cfg(feature = "sqlite")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub(crate) Uuid);

/// What a server's store keeps for one client's store. Counted up from 1 and never used again.
#[cfg(feature = "sqlite")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct RegistrationId(pub(crate) u64);

/// One opening of a journal, counted up from 1; 23 bits. It is the upper part of the numbers of durable calls.
#[cfg(feature = "sqlite")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Epoch(pub(crate) u32);

/// How often a store has committed something about calls: it tells a store that went back.
#[cfg(feature = "sqlite")]
pub(crate) type CommitNumber = u64;

impl NodeId {
    /// The identity as a UUID.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

macro_rules! hexadecimal {
    ($name:ident, $width:literal, $value:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value: fn(&$name) -> u64 = $value;
                write!(f, concat!("{:0", $width, "x}"), value(self))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

hexadecimal!(Boot, "16", |boot| boot.0);
hexadecimal!(SessionId, "16", |session| session.0);
hexadecimal!(MethodId, "8", |method| u64::from(method.0));

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

#[cfg(feature = "sqlite")]
impl StoreId {
    /// The identity as a UUID.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

#[cfg(feature = "sqlite")]
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "sqlite")]
impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({})", self.0)
    }
}

#[cfg(feature = "sqlite")]
impl Epoch {
    /// Numbers of one epoch, at most.
    pub(crate) const NUMBERS: u64 = 1 << 40;
    /// The last epoch that there can be: its numbers still fit the signed integers of a database.
    pub(crate) const LAST: Epoch = Epoch((1 << 23) - 1);

    /// The first number of a durable call in this epoch.
    pub(crate) fn first_seq(self) -> Seq {
        u64::from(self.0) * Epoch::NUMBERS
    }

    /// The epoch in which a durable call got its number.
    pub(crate) fn of(seq: Seq) -> Epoch {
        // A number has 64 bits, so that this has 24.
        Epoch((seq / Epoch::NUMBERS) as u32)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.boot, self.session, self.seq)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({self})")
    }
}
