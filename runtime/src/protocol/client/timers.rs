//! What time does to a client: deadlines, the wait for a word on given-up calls, acknowledgements, liveness.

use super::Client;
use super::link::Link;
use super::slots::{State, Why};
use crate::time::Time;
use crate::wire::frame::{Kind, put_nonce};
use crate::wire::send_buffer::SendBuffer;

/// Whether the link is still of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Alive,
    /// The server has been silent for too long: close the link and make another.
    Silent,
}

impl<W> Client<W> {
    /// It is this late: the time of calls that were started without a clock begins. To be told before anything else that
    /// has to do with time.
    #[inline]
    pub(crate) fn tick(&mut self, now: Time) {
        if !self.untimed.is_empty() {
            self.begin_untimed(now);
        }
    }

    fn begin_untimed(&mut self, now: Time) {
        for index in self.untimed.drain(..) {
            // A slot is there twice if its call was answered and another took it meanwhile.
            let slot = self.slots.at_mut(index).filter(|slot| slot.began == Time::ZERO);
            let Some(slot) = slot else { continue };
            slot.began = now;
            slot.deadline = slot.deadline.counted_from(now);
            self.next_deadline = self.next_deadline.min(slot.deadline);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; it may find nothing to do then.
    #[inline]
    pub(crate) fn next_timeout(&self) -> Time {
        let liveness = match self.link {
            Link::Down => Time::NEVER,
            Link::Greeting { until, .. } => until,
            Link::Up { heard, pinged, .. } => {
                pinged.unwrap_or(heard) + self.config.limits.ping_interval
            }
        };
        let ack = match self.acks.due() {
            Some(due) if self.link.is_welcome() => due,
            _ => Time::NEVER,
        };
        self.next_deadline.min(ack).min(liveness)
    }

    /// Does what is due. A call that was started without a clock since the last [`tick`](Self::tick) begins now.
    pub(crate) fn handle_timeout(&mut self, now: Time, out: &mut SendBuffer) -> Health {
        self.tick(now);
        if self.link.is_welcome() && self.acks.due().is_some_and(|due| due <= now) {
            self.acks.flush(out);
        }
        if self.next_deadline <= now {
            self.expire(now, out);
        }
        self.check_liveness(now, out)
    }

    fn expire(&mut self, now: Time, out: &mut SendBuffer) {
        for index in self.slots.unfinished() {
            let Some(slot) = self.slots.at(index) else { continue };
            match slot.state {
                State::Resolving(why) if slot.resolve_until <= now => {
                    self.fail_given_up(now, index, why, false);
                }
                State::Queued | State::Sent if slot.deadline <= now => {
                    if let Some(key) = self.slots.key(index) {
                        self.give_up(now, key, Why::Deadline, out);
                    }
                }
                _ => {}
            }
        }
        let mut next = Time::NEVER;
        for index in self.slots.unfinished() {
            if let Some(slot) = self.slots.at(index) {
                let resolving = matches!(slot.state, State::Resolving(_));
                next = next.min(if resolving { slot.resolve_until } else { slot.deadline });
            }
        }
        self.next_deadline = next;
    }

    fn check_liveness(&mut self, now: Time, out: &mut SendBuffer) -> Health {
        let patience = self.config.limits.ping_interval;
        match &mut self.link {
            Link::Greeting { until, .. } if *until <= now => Health::Silent,
            Link::Up { pinged: Some(pinged), .. } if *pinged + patience <= now => Health::Silent,
            Link::Up { heard, pinged: pinged @ None, .. } if *heard + patience <= now => {
                *pinged = Some(now);
                put_nonce(Kind::Ping, now.as_nanos(), out.small());
                Health::Alive
            }
            _ => Health::Alive,
        }
    }
}
