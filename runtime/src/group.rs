//! Groups: the same method called at many objects, under one policy.
//!
//! A generated `…Group` holds [`Members`] and makes a [`GroupCall`] of each method; a policy makes that a [`Gather`],
//! which is a future of [`Replies`]. Each member's call is an ordinary [`Call`](crate::Call) of its own, with its own
//! session, semantics and deadline. What a group adds is who is called, and when it has heard enough.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::address::{IntoUrl, Url};
use crate::call::Remote;
use crate::dispatch::Interface;
use crate::driver::bundle::Multicast;
use crate::driver::lock;
use crate::error::{CallError, Refusal};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::semantics::Execution;

mod call;
mod multicast;
mod replies;
mod round;
mod wakes;

pub use call::{Gather, GroupCall};
use multicast::Reach;
pub use replies::{Outcome, Replies, Reply, Unmet};

/// Objects of one interface that are called together: implemented by `#[remote]` for each `…Group`.
///
/// Its inherent methods bear the interface's names, and each returns a [`GroupCall`]. The functions here have no place
/// among them: call them as `Group::add(&desks, url)`, or import the trait.
///
/// Clones are one group: a member that is added to one is a member of all. A call has the members that the group had
/// when the call was made.
pub trait Group: Clone + Send + Sync + 'static {
    /// The interface of the members, `dyn Trait`.
    type Interface: ?Sized + Interface;

    /// A group of these members.
    #[doc(hidden)]
    fn from_members(members: Members) -> Self;

    /// What the group calls.
    #[doc(hidden)]
    fn as_members(&self) -> &Members;

    /// Adds a member. Its server need not be there yet. A URL that is a member already changes nothing.
    ///
    /// # Errors
    /// As [`Node::proxy`], and [`CallError::Busy`] if the group has [`Limits::members`](crate::Limits::members) already.
    fn add(&self, url: impl IntoUrl) -> Result<Member, CallError> {
        self.as_members().add::<<Self::Interface as Interface>::Proxy>(url)
    }

    /// Removes a member, and says whether it was one. Calls that were made before are not touched.
    fn remove(&self, member: &Member) -> bool {
        self.as_members().remove(member)
    }

    /// The members, in the order in which they were added.
    fn members(&self) -> Vec<Member> {
        self.as_members().present().iter().map(|present| present.member.clone()).collect()
    }

    /// The same group; calls through it have this timeout where they set none of their own.
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self {
        let members = self.as_members();
        Self::from_members(Members { timeout: Some(timeout), ..members.clone() })
    }

    /// The node that the group calls from.
    fn node(&self) -> &Node {
        &self.as_members().shared.node
    }
}

/// A member of a group, by its URL. It stays the same member when its server is restarted.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Member {
    url: Arc<Url>,
}

impl Member {
    pub(crate) fn new(url: Url) -> Member {
        Member { url: Arc::new(url) }
    }

    /// Where the member is.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// What a generated group calls through. Cheap to clone; all clones are one group.
#[derive(Clone)]
pub struct Members {
    shared: Arc<Shared>,
    timeout: Option<Duration>,
}

struct Shared {
    node: Node,
    /// Replaced as a whole: a call keeps the members of its moment.
    present: Mutex<Arc<[Present]>>,
    /// How calls leave in one datagram.
    multicast: Option<Arc<Multicast>>,
    /// Whether that is a broadcast, which is not for every method.
    broadcast: bool,
}

/// A member, and the way to it.
#[derive(Clone)]
struct Present {
    member: Member,
    remote: Remote,
    reach: Arc<Reach>,
}

impl Members {
    fn new(node: Node, multicast: Option<Arc<Multicast>>, broadcast: bool) -> Members {
        let present = Mutex::new(Arc::from([]));
        Members { shared: Arc::new(Shared { node, present, multicast, broadcast }), timeout: None }
    }

    fn add<P: Proxy>(&self, url: impl IntoUrl) -> Result<Member, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        let remote = self.shared.node.proxy::<P>(&url)?.as_remote().clone();
        let member = Member::new(url);
        let limit = self.shared.node.limits().members;
        let mut present = lock(&self.shared.present);
        if let Some(there) = present.iter().find(|there| there.member == member) {
            return Ok(there.member.clone());
        }
        if present.len() >= limit {
            let detail = format!("a group has at most {limit} members").into();
            return Err(CallError::Busy(Refusal { detail, execution: Execution::NotExecuted }));
        }
        let added = Present { member: member.clone(), remote, reach: Arc::default() };
        *present = present.iter().cloned().chain([added]).collect();
        Ok(member)
    }

    fn remove(&self, member: &Member) -> bool {
        let mut present = lock(&self.shared.present);
        let left: Arc<[Present]> =
            present.iter().filter(|there| there.member != *member).cloned().collect();
        let was_there = left.len() < present.len();
        *present = left;
        was_there
    }

    fn present(&self) -> Arc<[Present]> {
        Arc::clone(&lock(&self.shared.present))
    }
}

impl Node {
    /// A group of the objects that the URLs name; `tcp://`, `udp://` and `mem://` may be mixed.
    ///
    /// Nobody is asked: a member whose server is not there, or has no such object, is a member all the same, and each
    /// call has an entry for it that says so. Must be called inside a tokio runtime, which then runs the connections.
    ///
    /// # Errors
    /// As [`Node::proxy`], for the first URL that cannot be used, and [`CallError::Busy`] if there are more than
    /// [`Limits::members`](crate::Limits::members).
    #[allow(clippy::unused_async, reason = "as `lookup`, and other kinds of groups do wait")]
    pub async fn group<G: Group>(
        &self,
        urls: impl IntoIterator<Item = impl IntoUrl>,
    ) -> Result<G, CallError> {
        let group = G::from_members(Members::new(self.clone(), None, false));
        for url in urls {
            group.add(url)?;
        }
        Ok(group)
    }
}

/// A group from a node of its own, which lives as long as the group and its clones; see [`Node::group`].
///
/// The node runs on the current tokio runtime; [`Group::node`] gives it, for [`shutdown`](Node::shutdown).
///
/// # Errors
/// As [`Node::group`]; no method ran.
pub async fn group<G: Group>(urls: impl IntoIterator<Item = impl IntoUrl>) -> Result<G, CallError> {
    Node::builder().build().group(urls).await
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.url)
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = self.present();
        f.debug_list().entries(present.iter().map(|present| &present.member)).finish()
    }
}
