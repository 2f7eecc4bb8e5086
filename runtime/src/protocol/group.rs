//! One call to a group: whose answers count, and when it is over.
//!
//! The driver makes the calls of the members and tells here how each of them ended; what comes back says whether to
//! wait on. Holds no values and no time: a member's own call ends at its deadline, and that is an answer like others.
//! Bounded by the number of members.

use std::collections::BTreeSet;

#[cfg(test)]
mod tests;

/// How many members must have given an accepted answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// None, and nobody is waited for.
    Nobody,
    /// So many; the others are not waited for.
    Accepted(usize),
    /// All that are called, and each is waited for.
    All,
    /// None, but each is waited for.
    Whoever,
}

/// How the call of one member ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended<V> {
    /// With an answer that the caller accepts, of an object that `V` tells from all others.
    Accepted(V),
    /// With another answer, or none.
    Failed,
}

/// Why a call to a group is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was needed is there.
    Met,
    /// It can no longer be there.
    Unmet,
}

/// The state of one call to a group.
#[derive(Debug)]
pub(crate) struct Votes<V> {
    needed: Needed,
    /// Whether the member's call has ended.
    ended: Vec<bool>,
    open: usize,
    /// Who gave an accepted answer: one vote an object, whatever the number of ways that lead to it.
    voters: BTreeSet<V>,
}

impl<V: Ord> Votes<V> {
    /// A call to so many members, none of which has ended.
    pub(crate) fn new(needed: Needed, members: usize) -> Votes<V> {
        Votes { needed, ended: vec![false; members], open: members, voters: BTreeSet::new() }
    }

    /// The call of a member ended; whether that counts as a vote. The first end of a member is the only one.
    pub(crate) fn end(&mut self, member: usize, ended: Ended<V>) -> bool {
        let again = match self.ended.get_mut(member) {
            None => true,
            Some(ended) => std::mem::replace(ended, true),
        };
        if again {
            return false;
        }
        self.open = self.open.saturating_sub(1);
        match ended {
            Ended::Accepted(voter) => self.voters.insert(voter),
            Ended::Failed => false,
        }
    }

    /// Whether it is over, and how. Once it is, it stays so.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let (open, accepted) = (self.open, self.accepted());
        match self.needed {
            Needed::Nobody => Some(Verdict::Met),
            Needed::Accepted(needed) if accepted >= needed => Some(Verdict::Met),
            Needed::Accepted(_) if accepted > 0 && cfg_canary!("one_answer_is_a_quorum") => {
                Some(Verdict::Met)
            }
            Needed::Accepted(_) if cfg_canary!("hopeless_quorums_are_waited_for") => None,
            Needed::Accepted(needed)
                if accepted + open < needed + usize::from(cfg_canary!("quorums_end_too_early")) =>
            {
                Some(Verdict::Unmet)
            }
            Needed::Accepted(_) => None,
            Needed::All | Needed::Whoever if open > 0 => None,
            Needed::All if accepted < self.ended.len() => Some(Verdict::Unmet),
            Needed::All | Needed::Whoever => Some(Verdict::Met),
        }
    }

    /// Accepted answers of different objects.
    pub(crate) fn accepted(&self) -> usize {
        self.voters.len()
    }

    /// How many are needed.
    pub(crate) fn needed(&self) -> usize {
        match self.needed {
            Needed::Nobody | Needed::Whoever => 0,
            Needed::Accepted(needed) => needed,
            Needed::All => self.ended.len(),
        }
    }

    /// Whether it is over before anybody has answered.
    pub(crate) fn waits_for_nobody(&self) -> bool {
        self.needed == Needed::Nobody
    }

    /// Members that were called.
    pub(crate) fn called(&self) -> usize {
        self.ended.len()
    }

    /// Members whose calls have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }
}
