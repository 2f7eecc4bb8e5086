//! Policies, one by one and under random ends.

use super::*;

fn votes(needed: Needed, members: usize) -> Votes<u32> {
    Votes::new(needed, members)
}

#[test]
fn the_first_accepted_answer_is_enough() {
    let mut votes = votes(Needed::Accepted(1), 3);
    assert!(!votes.end(2, Ended::Failed));
    assert_eq!(votes.verdict(), None);
    assert!(votes.end(0, Ended::Accepted(0)));
    assert_eq!(votes.verdict(), Some(Verdict::Met));
}

#[test]
fn a_quorum_ends_as_soon_as_it_can_no_longer_be_met() {
    let mut votes = votes(Needed::Accepted(3), 5);
    votes.end(0, Ended::Failed);
    votes.end(1, Ended::Failed);
    assert_eq!(votes.verdict(), None);
    votes.end(4, Ended::Failed);
    assert_eq!(votes.verdict(), Some(Verdict::Unmet));
    assert_eq!((votes.open(), votes.accepted(), votes.needed()), (2, 0, 3));
}

#[test]
fn more_than_there_are_members_is_never_met() {
    assert_eq!(votes(Needed::Accepted(4), 3).verdict(), Some(Verdict::Unmet));
    assert_eq!(votes(Needed::Accepted(1), 0).verdict(), Some(Verdict::Unmet));
}

#[test]
fn all_waits_for_each_and_says_whether_all_accepted() {
    let mut votes = votes(Needed::All, 2);
    votes.end(1, Ended::Failed);
    assert_eq!(votes.verdict(), None, "the other one has an answer to give");
    votes.end(0, Ended::Accepted(0));
    assert_eq!(votes.verdict(), Some(Verdict::Unmet));
}

#[test]
fn whoever_waits_for_each_and_asks_for_nothing() {
    let mut votes = votes(Needed::Whoever, 2);
    votes.end(1, Ended::Failed);
    assert_eq!(votes.verdict(), None);
    votes.end(0, Ended::Failed);
    assert_eq!(votes.verdict(), Some(Verdict::Met));
}

#[test]
fn nobody_is_waited_for_if_nobody_is_needed() {
    assert_eq!(votes(Needed::Nobody, 3).verdict(), Some(Verdict::Met));
}

#[test]
fn two_ways_to_one_object_are_one_vote() {
    let mut votes = votes(Needed::Accepted(2), 3);
    assert!(votes.end(0, Ended::Accepted(7)));
    assert!(!votes.end(1, Ended::Accepted(7)));
    assert_eq!(votes.verdict(), None);
    assert!(votes.end(2, Ended::Accepted(8)));
    assert_eq!(votes.verdict(), Some(Verdict::Met));
}

#[test]
fn a_member_ends_once_and_a_stranger_never() {
    let mut votes = votes(Needed::Accepted(2), 2);
    assert!(votes.end(0, Ended::Accepted(0)));
    assert!(!votes.end(0, Ended::Accepted(1)));
    assert!(!votes.end(9, Ended::Accepted(9)));
    assert_eq!((votes.accepted(), votes.open(), votes.verdict()), (1, 1, None));
}

/// A generator whose runs can be repeated; the simulator has one of its own.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}

#[test]
fn whatever_ends_in_whatever_order_the_verdict_is_that_of_the_distinct_voters() {
    for seed in 0..20_000 {
        let mut draw = Draw(seed);
        let members = draw.below(9);
        let needed = match draw.below(4) {
            0 => Needed::Nobody,
            1 => Needed::All,
            2 => Needed::Whoever,
            _ => Needed::Accepted(draw.below(11)),
        };
        let mut votes = votes(needed, members);
        let mut ends: Vec<Option<Option<u32>>> = vec![None; members];
        let mut before = votes.verdict();
        for _ in 0..draw.below(24) {
            let member = draw.below(members + 2);
            // Fewer objects than members: some are reached in two ways.
            let voter =
                [None, Some(u32::try_from(draw.below(members + 1)).unwrap_or(0))][draw.below(2)];
            votes.end(member, voter.map_or(Ended::Failed, Ended::Accepted));
            if let Some(end @ None) = ends.get_mut(member) {
                *end = Some(voter);
            }
            let verdict = votes.verdict();
            assert_eq!(verdict, expected(needed, &ends), "seed {seed}");
            if let Some(before) = before {
                // More votes can turn nothing but a quorum of none that is needed: what is over stays over.
                assert_eq!(Some(before), verdict, "seed {seed}");
            }
            before = verdict;
        }
    }
}

/// The same, said in another way: from all ends at once.
fn expected(needed: Needed, ends: &[Option<Option<u32>>]) -> Option<Verdict> {
    let voters: BTreeSet<u32> = ends.iter().flatten().copied().flatten().collect();
    let open = ends.iter().filter(|end| end.is_none()).count();
    let met = |met| Some(if met { Verdict::Met } else { Verdict::Unmet });
    match needed {
        Needed::Nobody => met(true),
        Needed::Accepted(count) if voters.len() >= count => met(true),
        Needed::Accepted(count) if voters.len() + open < count => met(false),
        Needed::All | Needed::Whoever if open == 0 => {
            met(needed == Needed::Whoever || voters.len() == ends.len())
        }
        _ => None,
    }
}
