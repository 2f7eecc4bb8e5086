//! When the links of a socket are to be looked at next.

use std::collections::BTreeSet;

use crate::driver::timer::moves_on;
use crate::time::Time;

/// Moments and the links that they are for; a link knows its own.
#[derive(Default)]
pub(super) struct Agenda {
    moments: BTreeSet<(Time, u64)>,
}

impl Agenda {
    /// The first moment; never if there is none.
    #[inline]
    pub(super) fn first(&self) -> Time {
        self.moments.first().map_or(Time::NEVER, |&(moment, _)| moment)
    }

    /// Takes out a link whose moment is there.
    #[inline]
    pub(super) fn take_due(&mut self, now: Time) -> Option<u64> {
        if self.first() > now {
            return None;
        }
        self.moments.pop_first().map(|(_, link)| link)
    }

    /// The link whose moment is `due`, or never, is to be looked at then. It is set again as rarely as a
    /// [`Timer`](crate::driver::timer::Timer): a moment that moves away is mostly met, and set anew then.
    #[inline]
    pub(super) fn note(&mut self, now: Time, link: u64, due: &mut Time, wanted: Time) {
        if wanted < *due || moves_on(*due, wanted, now) {
            self.remove(link, *due);
            *due = wanted;
            if wanted != Time::NEVER {
                self.moments.insert((wanted, link));
            }
        }
    }

    /// The link whose moment is `due`, or never, is not to be looked at.
    pub(super) fn remove(&mut self, link: u64, due: Time) {
        if due != Time::NEVER {
            self.moments.remove(&(due, link));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moment(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn links_come_in_the_order_of_their_moments() {
        let mut agenda = Agenda::default();
        let mut due = [Time::NEVER; 3];
        for (link, millis) in [(0, 30), (1, 10), (2, 20), (0, 5)] {
            agenda.note(moment(0), link, &mut due[link as usize], moment(millis));
        }
        assert_eq!(agenda.first(), moment(5));
        agenda.remove(2, due[2]);
        let taken: Vec<_> = std::iter::from_fn(|| agenda.take_due(moment(40))).collect();
        assert_eq!(taken, [0, 1]);
        assert_eq!(agenda.first(), Time::NEVER);
    }

    #[test]
    fn a_moment_that_moves_away_is_met_unless_the_link_was_busy_shortly_before() {
        let mut agenda = Agenda::default();
        let mut due = Time::NEVER;
        agenda.note(moment(0), 7, &mut due, moment(20));
        agenda.note(moment(1), 7, &mut due, moment(21));
        assert_eq!((agenda.first(), due), (moment(20), moment(20)));
        agenda.note(moment(17), 7, &mut due, moment(37));
        assert_eq!((agenda.first(), due), (moment(37), moment(37)));
        assert_eq!(agenda.take_due(moment(36)), None);
        agenda.note(moment(36), 7, &mut due, Time::NEVER);
        assert_eq!((agenda.first(), due), (Time::NEVER, Time::NEVER));
    }
}
