//! How references to objects pass serde, which knows values only.
//!
//! A reference is encoded as its place in a list that travels beside the payload. Who serializes one leaves it in a
//! thread-local for the time, under a name that this encoder knows; another encoder finds an error instead. Who decodes
//! a payload with references says for which bytes a list came.
//!
//! What is saved has no list: there a reference is the name of its object, where it stands.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

/// What stands for an object; what it is, the layers above know.
pub(crate) type Passed = Box<dyn Any + Send + Sync>;

/// The references that leave beside a payload, in the order of their places. Most payloads have none: then it is one word,
/// and dropped without a call.
#[derive(Default)]
pub(crate) struct Leaving(Option<Box<List>>);

#[derive(Default)]
struct List(Vec<Passed>);

impl Leaving {
    /// Adds one behind the others.
    pub(super) fn push(&mut self, passed: Passed) {
        self.0.get_or_insert_default().0.push(passed);
    }
}

impl Deref for Leaving {
    type Target = [Passed];

    #[inline]
    fn deref(&self) -> &[Passed] {
        self.0.as_deref().map_or(&[], |list| &list.0)
    }
}

/// The references that came beside a payload.
pub(crate) trait Incoming: Send + Sync {
    /// The one at this place.
    fn get(&self, place: u32) -> Option<Passed>;

    /// The object of this name, in what was saved.
    fn named(&self, object: &str, interface: &str) -> Option<Passed> {
        let _ = (object, interface);
        None
    }
}

/// The names of an object and of its interface.
pub(crate) type Names = (Arc<str>, &'static str);

/// Finds the names of what is saved, or says why it cannot be.
pub(crate) type Naming = Rc<dyn Fn(&Passed) -> Result<Names, &'static str>>;

/// Does some work in which references are encoded as names.
#[cfg(feature = "sqlite")]
pub(crate) fn with_naming<R>(naming: Naming, work: impl FnOnce() -> R) -> R {
    let _before = Named(NAMING.replace(Some(naming)));
    work()
}

/// The names of a reference, where such are encoded.
pub(super) fn names_of(passed: &Passed) -> Option<Result<Names, &'static str>> {
    let naming = NAMING.with_borrow(Clone::clone)?;
    Some(naming(passed))
}

/// Serializes a reference: only calls can carry it.
pub(crate) fn serialize<S: Serializer>(passed: Passed, serializer: S) -> Result<S::Ok, S::Error> {
    let _offered = Offered(OFFERED.replace(Some(passed)));
    serializer.serialize_newtype_struct(NAME, &Outside)
}

/// Deserializes what [`serialize`] has written.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Passed, D::Error> {
    deserializer.deserialize_newtype_struct(NAME, Taking)
}

/// Whether a newtype of this name is a reference.
#[inline]
pub(super) fn is_reference(name: &str) -> bool {
    name.len() == NAME.len() && name == NAME
}

/// The reference that is just being serialized.
pub(super) fn offered() -> Option<Passed> {
    OFFERED.take()
}

/// Gives a reference that came with `bytes` to a visitor, if there is one at this place.
pub(super) fn hand_over(bytes: &[u8], place: u32) -> bool {
    find(bytes, |incoming| incoming.get(place))
}

/// As [`hand_over`], of the object of this name.
pub(super) fn hand_over_named(bytes: &[u8], object: &str, interface: &str) -> bool {
    find(bytes, |incoming| incoming.named(object, interface))
}

fn find(bytes: &[u8], which: impl FnOnce(&dyn Incoming) -> Option<Passed>) -> bool {
    let found = INCOMING.with_borrow(|incoming| {
        let (range, incoming) = incoming.as_ref()?;
        let end = bytes.as_ptr_range().end as usize;
        // Of these bytes, and not of another payload that is decoded meanwhile.
        (range.start < end && end <= range.end).then(|| which(&**incoming)).flatten()
    });
    let is_there = found.is_some();
    TAKEN.set(found);
    is_there
}

/// Whether references came with these bytes.
pub(crate) fn has_incoming(bytes: &[u8]) -> bool {
    let range = bytes.as_ptr_range();
    INCOMING.with_borrow(|incoming| {
        incoming.as_ref().is_some_and(|(of, _)| of.start == range.start as usize)
    })
}

/// Does some work while the references that came with `bytes` can be decoded.
pub(crate) fn with_incoming<R>(
    bytes: &[u8],
    incoming: &Arc<dyn Incoming>,
    work: impl FnOnce() -> R,
) -> R {
    let range = bytes.as_ptr_range();
    let entry = (range.start as usize..range.end as usize, Arc::clone(incoming));
    let _before = Before(INCOMING.replace(Some(entry)));
    work()
}

/// Stands for the value of a reference where no call carries it.
struct Outside;

impl Serialize for Outside {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(
            "a reference to an object travels in calls only: as an argument or in a result",
        ))
    }
}

struct Taking;

impl Visitor<'_> for Taking {
    type Value = Passed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reference to an object, which comes in calls only")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Passed, E> {
        TAKEN.take().ok_or_else(|| E::custom("a reference to an object comes in calls only"))
    }
}

/// Takes back what was offered and not taken.
struct Offered(Option<Passed>);

impl Drop for Offered {
    fn drop(&mut self) {
        let before = self.0.take();
        let _ = OFFERED.try_with(|offered| drop(offered.replace(before)));
    }
}

type Entry = Option<(Range<usize>, Arc<dyn Incoming>)>;

/// Puts back what came before, also when user code panics.
struct Before(Entry);

impl Drop for Before {
    fn drop(&mut self) {
        let before = self.0.take();
        let _ = INCOMING.try_with(|incoming| drop(incoming.replace(before)));
    }
}

/// Puts back how references were encoded before.
#[cfg(feature = "sqlite")]
struct Named(Option<Naming>);

#[cfg(feature = "sqlite")]
impl Drop for Named {
    fn drop(&mut self) {
        let before = self.0.take();
        let _ = NAMING.try_with(|naming| drop(naming.replace(before)));
    }
}

thread_local! {
    static NAMING: RefCell<Option<Naming>> = const { RefCell::new(None) };
    static OFFERED: Cell<Option<Passed>> = const { Cell::new(None) };
    static TAKEN: Cell<Option<Passed>> = const { Cell::new(None) };
    static INCOMING: RefCell<Entry> = const { RefCell::new(None) };
}

/// The name of a newtype that is a reference.
const NAME: &str = "farcall::Reference";

/// Stands in the place of a reference before the names of one.
pub(super) const BY_NAME: u32 = u32::MAX;

/// What a decoder says of a reference that did not come.
pub(super) fn missing(place: u32) -> super::DecodeError {
    super::DecodeError::custom(format_args!("no reference number {place} came with the payload"))
}
