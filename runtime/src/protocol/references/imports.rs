//! The objects of one peer that this node was handed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Record;
use crate::protocol::finished::Finished;
use crate::wire::frame::Ranges;

/// What one peer has handed out to this node.
#[derive(Debug)]
pub(crate) struct Imports {
    /// Objects that are held at most.
    limit: usize,
    entries: BTreeMap<u64, Import>,
    /// What is to be given back, oldest first.
    releases: VecDeque<(u64, Ranges)>,
    /// Records that the peer was told have not come: they must not come any more. The oldest are forgotten.
    void: BTreeSet<Record>,
    voided: VecDeque<Record>,
}

#[derive(Debug, Default)]
struct Import {
    /// Records in which it came, since it was last given back.
    marks: Finished,
    /// Who holds it here.
    held: usize,
}

impl Imports {
    /// Nothing yet, and never more than `limit` objects.
    pub(crate) fn new(limit: usize) -> Imports {
        let (entries, releases) = (BTreeMap::new(), VecDeque::new());
        Imports { limit, entries, releases, void: BTreeSet::new(), voided: VecDeque::new() }
    }

    /// A record came: the object is held once more, until [`unhold`](Self::unhold). False for one that must not come, or is
    /// more than a correct peer passes.
    pub(crate) fn receive(&mut self, record: Record) -> bool {
        if self.void.contains(&record) || self.is_full(record) {
            return false;
        }
        let import = self.entries.entry(record.id).or_default();
        import.marks.insert(record.mark);
        import.held += 1;
        true
    }

    /// Whether a record is of one object too many, or leaves one gap too many among those of its object; or a peer passes on
    /// and on, and hears nothing of what is given back.
    fn is_full(&self, record: Record) -> bool {
        self.releases.len() >= MOST_RELEASES
            || match self.entries.get(&record.id) {
                Some(import) => import.marks.gaps() >= MOST_GAPS,
                None => self.entries.len() >= self.limit,
            }
    }

    /// Somebody holds the object no more.
    ///
    /// Returns whether there is something to be given back now, and was not before.
    pub(crate) fn unhold(&mut self, id: u64) -> bool {
        let Some(import) = self.entries.get_mut(&id) else { return false };
        import.held = import.held.saturating_sub(1);
        if import.held > 0 && !cfg_canary!("one_holder_of_two_is_enough") {
            return false;
        }
        let Some(import) = self.entries.remove(&id) else { return false };
        let lowest = Some((1, import.marks.floor())).filter(|(start, end)| start < end);
        let marks = lowest.into_iter().chain(import.marks.ranges()).collect();
        self.releases.push_back((id, marks));
        self.releases.len() == 1
    }

    /// The peer asks about a record of a call that has ended: whether it is held here. If not, it never will be.
    pub(crate) fn settle(&mut self, record: Record) -> bool {
        let held = self.entries.get(&record.id);
        if held.is_some_and(|import| import.marks.contains(record.mark)) {
            return true;
        }
        if self.void.insert(record) {
            self.voided.push_back(record);
            if self.voided.len() > MOST_VOID
                && let Some(oldest) = self.voided.pop_front()
            {
                self.void.remove(&oldest);
            }
        }
        false
    }

    /// At most so many ids with the marks to be given back. They are forgotten: who cannot tell the peer puts them back.
    pub(crate) fn releases(&mut self, most: usize) -> Vec<(u64, Ranges)> {
        let count = self.releases.len().min(most);
        self.releases.drain(..count).collect()
    }

    /// The peer could not be told.
    pub(crate) fn put_back(&mut self, releases: Vec<(u64, Ranges)>) {
        if cfg_canary!("what_is_given_back_is_said_once") {
            return;
        }
        for release in releases.into_iter().rev() {
            self.releases.push_front(release);
        }
    }

    /// How many objects are held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them are void: the session is gone.
    pub(crate) fn reset(&mut self) {
        *self = Imports::new(self.limit);
    }
}

/// Records that never came and are remembered. One that comes when it is forgotten is of an object that may be gone, which
/// its call is told.
const MOST_VOID: usize = 4096;
/// Objects that are given back, and of which the peer was not told yet.
const MOST_RELEASES: usize = 1 << 16;
/// Records of one object that were lost, while others came and it was held.
const MOST_GAPS: usize = 1 << 16;
