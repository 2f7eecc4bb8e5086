//! The objects that one peer may call by reference.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::Record;
use crate::protocol::finished::Finished;
use crate::time::Time;
use crate::wire::frame::Ranges;

/// What one peer was handed. `T` is an object, or what stands for it.
#[derive(Debug)]
pub(crate) struct Exports<T> {
    ids_of: Ids,
    limit: usize,
    entries: BTreeMap<u64, Export<T>>,
    /// The ids of objects, so that an object has one.
    ids: BTreeMap<u64, u64>,
    /// Records that ended and were not given back, with when the peer is asked about them.
    doubts: VecDeque<(Time, Record)>,
}

#[derive(Debug)]
struct Export<T> {
    object: T,
    /// Which object it is, among all of this node.
    key: u64,
    /// Records in which it was sent.
    issued: u64,
    /// Those of them that the peer has given back.
    released: Finished,
    /// Those that are unfinished, ascending: the call is not answered, or the answer not acknowledged.
    pinned: Vec<u64>,
}

/// As many objects are exported to one peer as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Ids that come once each, and that nobody can guess who knows others: a counter through a permutation of all numbers
/// that is drawn by a key, a Feistel network (Luby and Rackoff, 1988) of SipHash.
#[derive(Debug)]
struct Ids {
    key: [u64; 2],
    count: u64,
}

impl Ids {
    fn next(&mut self) -> u64 {
        let (mut left, mut right) = ((self.count >> 32) as u32, self.count as u32);
        self.count = self.count.wrapping_add(1);
        for round in 0..ROUNDS {
            let hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
            let half = (u64::from(round) << 32) | u64::from(right);
            (left, right) = (right, left ^ hasher.hash(&half.to_le_bytes()) as u32);
        }
        (u64::from(left) << 32) | u64::from(right)
    }
}

impl<T> Exports<T> {
    /// Nothing is exported; ids come in an order that `key` determines, and at most `limit` objects are exported at a time.
    pub(crate) fn new(key: [u64; 2], limit: usize) -> Exports<T> {
        let (entries, ids, doubts) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        let ids_of = Ids { key, count: 0 };
        Exports { ids_of, limit, entries, ids, doubts }
    }

    /// One more record with an object is made; it is unfinished until [`ended`](Self::ended). `object` is told its id.
    ///
    /// # Errors
    /// [`TooMany`]; nothing was changed.
    pub(crate) fn pass(
        &mut self,
        key: u64,
        object: impl FnOnce(u64) -> T,
    ) -> Result<Record, TooMany> {
        let id = match self.ids.get(&key) {
            Some(&id) => id,
            None if self.entries.len() >= self.limit => return Err(TooMany),
            None => {
                let id = self.ids_of.next();
                let (issued, released, pinned) = (0, Finished::default(), Vec::new());
                let export = Export { object: object(id), key, issued, released, pinned };
                self.entries.insert(id, export);
                self.ids.insert(key, id);
                id
            }
        };
        let Some(export) = self.entries.get_mut(&id) else { return Err(TooMany) };
        export.issued += 1;
        export.pinned.push(export.issued);
        Ok(Record { id, mark: export.issued })
    }

    /// The call of a record is finished, or its reply. Returns the object if nothing holds it any more.
    pub(crate) fn ended(&mut self, now: Time, record: Record) -> Option<T> {
        let export = self.entries.get_mut(&record.id)?;
        export.pinned.retain(|mark| *mark != record.mark);
        if !export.released.contains(record.mark) {
            self.doubts.push_back((now + DOUBT, record));
            self.forget_settled();
        }
        self.collect(record.id)
    }

    /// The peer gives records back. Returns the object if nothing holds it any more.
    pub(crate) fn release(&mut self, id: u64, marks: &Ranges) -> Option<T> {
        let export = self.entries.get_mut(&id)?;
        if cfg_canary!("what_is_on_its_way_is_given_back") {
            export.released.insert_range(1, export.issued + 1);
        }
        for &(start, end) in marks {
            // What was never sent cannot be given back.
            let end = end.min(export.issued + 1);
            if 0 < start && start < end {
                export.released.insert_range(start, end);
            }
        }
        self.collect(id)
    }

    /// At most so many records that ended some time ago, and that the peer neither gave back nor was asked about.
    pub(crate) fn doubts(&mut self, now: Time, most: usize) -> Vec<Record> {
        let mut due = Vec::new();
        if cfg_canary!("lost_references_are_not_asked_about") {
            return due;
        }
        while due.len() < most && self.doubts.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, record)) = self.doubts.pop_front() else { break };
            let doubtful = self.entries.get(&record.id).is_some_and(|export| {
                !export.released.contains(record.mark) && !export.pinned.contains(&record.mark)
            });
            if doubtful {
                due.push(record);
            }
        }
        due
    }

    /// The peer could not be asked about these: it is later.
    pub(crate) fn doubt_again(&mut self, now: Time, records: &[Record]) {
        self.doubts.extend(records.iter().map(|record| (now + DOUBT, *record)));
    }

    /// When the next of them is due.
    pub(crate) fn next_doubt(&self) -> Time {
        self.doubts.front().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// The object of an id.
    pub(crate) fn get(&self, id: u64) -> Option<&T> {
        self.entries.get(&id).map(|export| &export.object)
    }

    /// How many objects there are, and all of them with how many records the peer has not given back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&T, u64)> {
        self.entries.values().map(|export| {
            let open =
                (1..=export.issued.min(COUNTED)).filter(|mark| !export.released.contains(*mark));
            (&export.object, open.count() as u64)
        })
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The peer's session is gone, and another may follow: only what is unfinished here is still held. Returns what is not.
    pub(crate) fn reset(&mut self) -> Vec<T> {
        if cfg_canary!("references_outlive_their_session") {
            return Vec::new();
        }
        self.doubts.clear();
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        for export in self.entries.values_mut() {
            let ends = cfg_canary!("unfinished_arguments_end_with_the_session");
            let unfinished = if ends { &[] } else { &export.pinned[..] };
            // What lies between them: a busy object has millions of records, and few that are unfinished.
            let mut start = 1;
            for mark in unfinished.iter().copied().chain([export.issued + 1]) {
                if start < mark {
                    export.released.insert_range(start, mark);
                }
                start = mark + 1;
            }
        }
        ids.into_iter().filter_map(|id| self.collect(id)).collect()
    }

    /// The bug that counts a reply again when it is sent again.
    #[cfg(farcall_canary)]
    pub(crate) fn count_again(&mut self, record: Record) {
        if let Some(export) = self.entries.get_mut(&record.id) {
            export.issued += 1;
        }
    }

    /// Everything, when there is no peer any more.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.doubts.clear();
        self.ids.clear();
        std::mem::take(&mut self.entries).into_values().map(|export| export.object).collect()
    }

    /// Drops doubts that are none any more, when they are many: most references are given back before anybody asks.
    fn forget_settled(&mut self) {
        if self.doubts.len() < DOUBTS_KEPT.max(2 * self.entries.len()) {
            return;
        }
        let entries = &self.entries;
        self.doubts.retain(|(_, record)| {
            let export = entries.get(&record.id);
            export.is_some_and(|export| !export.released.contains(record.mark))
        });
    }

    /// Drops an object that nothing holds.
    fn collect(&mut self, id: u64) -> Option<T> {
        let export = self.entries.get(&id)?;
        // The other side keeps them as well, so that this bug is planted on both.
        let pinned =
            !export.pinned.is_empty() && !cfg_canary!("arguments_go_before_their_call_has_ended");
        if pinned || export.released.floor() <= export.issued {
            return None;
        }
        let export = self.entries.remove(&id)?;
        self.ids.remove(&export.key);
        Some(export.object)
    }
}

/// Rounds of the permutation: two more than make it one that chosen numbers do not tell from a random one.
const ROUNDS: u32 = 6;
/// How long a record may be on its way after its call has ended: the peer is asked about it then.
const DOUBT: Duration = Duration::from_secs(1);
/// So many records may be in doubt before it is looked whether they still are.
const DOUBTS_KEPT: usize = 4096;
/// Records that are looked at to count those that are open.
const COUNTED: u64 = 1024;
