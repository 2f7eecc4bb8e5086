//! What some of the planted bugs do to a session; see `canary.rs`. No other build calls it.

use std::time::Duration;

use super::ServerSession;
use super::record::Record;
use crate::id::Seq;
use crate::time::Time;

impl ServerSession {
    /// What was answered a second ago is forgotten, acknowledged or not.
    pub(super) fn drop_old_answers(&mut self, now: Time) {
        if self.unacknowledged.is_some_and(|since| since + Duration::from_secs(1) <= now) {
            for seq in self.answered() {
                self.forget_one(seq);
            }
        }
    }

    /// Of two answers that are kept, the older one goes.
    pub(super) fn drop_one_answer(&mut self) {
        if let [oldest, _, ..] = self.answered()[..] {
            self.forget_one(oldest);
        }
    }

    fn answered(&self) -> Vec<Seq> {
        let answered = |(seq, record): (Seq, &Record)| record.is_answered().then_some(seq);
        let mut seqs: Vec<Seq> = self.records.iter().filter_map(answered).collect();
        seqs.sort_unstable();
        seqs
    }
}
