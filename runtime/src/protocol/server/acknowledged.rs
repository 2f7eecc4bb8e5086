//! What the client acknowledged: its records go, and nothing else makes a record go.

use super::record::State;
use super::{MAX_JUMP, ServerSession};
use crate::id::Seq;
use crate::protocol::client::Violation;
use crate::time::Time;
use crate::wire::frame::{self, Kind, Ranges};
use crate::wire::send_buffer::SendBuffer;

impl ServerSession {
    /// CALL_ACK: all calls below `floor` and in `ranges` are finished at the client.
    pub(crate) fn acknowledge(&mut self, floor: Seq, ranges: &Ranges) -> Result<(), Violation> {
        self.finish_below(floor)?;
        for &(start, end) in ranges {
            if end > self.max.saturating_add(MAX_JUMP) {
                return Err(Violation("an acknowledgement far ahead"));
            }
            // Checked before each: what one link did not close on, the next one must not add to.
            if self.finished.gaps() > self.limits.window + 1 {
                return Err(Violation("acknowledgements with more gaps than the window allows"));
            }
            self.forget(start, end);
            if !cfg_canary!("acknowledged_calls_are_not_noted") {
                self.finished.insert_range(start, end);
            }
        }
        Ok(())
    }

    /// Whether the client has said of more calls that they are finished, since the last time.
    pub(crate) fn take_acknowledged(&mut self) -> bool {
        self.finished.take_grown()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn next_timeout(&self) -> Time {
        match self.unacknowledged {
            Some(since) if self.attached => since + self.limits.ack_solicit,
            _ => Time::NEVER,
        }
    }

    /// Asks the client to acknowledge what it has; one that never does breaks the protocol. As long as replies are being
    /// sent it may have none whole.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Time,
        out: &mut SendBuffer,
    ) -> Result<(), Violation> {
        if self.next_timeout() <= now {
            if self.solicitations >= MAX_SOLICITATIONS {
                return Err(Violation("replies are never acknowledged"));
            }
            self.solicitations += u32::from(out.is_empty() && self.to_send.is_empty());
            self.asks = true;
            self.unacknowledged = Some(now);
            frame::put_empty(Kind::NeedAck, out.small());
        }
        Ok(())
    }

    /// Whether NEED_ACK was written since the last time: it is to leave even to a client that is silent.
    #[inline]
    pub(crate) fn take_asks(&mut self) -> bool {
        std::mem::take(&mut self.asks)
    }

    #[inline]
    pub(super) fn finish_below(&mut self, floor: Seq) -> Result<(), Violation> {
        if floor > self.max.saturating_add(MAX_JUMP) {
            return Err(Violation("a floor far ahead"));
        }
        let old = self.finished.floor();
        if floor > old {
            self.forget(old, floor);
            if !cfg_canary!("acknowledged_calls_are_not_noted") {
                self.finished.raise(floor);
            }
            // The floor passes calls that were given up before they came.
            self.max = self.max.max(floor - 1);
        }
        Ok(())
    }

    /// Drops the records of finished calls; those that run go on as orphans.
    fn forget(&mut self, start: Seq, end: Seq) {
        let bytes = if end.saturating_sub(start) <= 2 * self.records.len() as u64 {
            (start..end).map(|seq| self.drop_record(seq)).sum()
        } else {
            let all = self.records.iter().map(|(seq, _)| seq);
            let inside: Vec<Seq> = all.filter(|seq| (start..end).contains(seq)).collect();
            inside.into_iter().map(|seq| self.drop_record(seq)).sum()
        };
        self.uncount(bytes);
    }

    #[inline]
    pub(super) fn forget_one(&mut self, seq: Seq) {
        let bytes = self.drop_record(seq);
        self.uncount(bytes);
    }

    /// Returns the bytes of the reply that is gone, for the caller to take off the count.
    #[inline]
    fn drop_record(&mut self, seq: Seq) -> usize {
        let Some(record) = self.records.get_mut(seq) else { return 0 };
        let mut bytes = 0;
        if let State::Answered { body, .. } = &record.state {
            bytes = body.len();
            self.records.remove(seq);
            self.solicitations = 0;
            if self.records.len() == self.running {
                self.unacknowledged = None;
            }
        } else if !record.orphan {
            record.orphan = true;
            self.orphans += 1;
        }
        bytes
    }
}

/// How often a client that acknowledges nothing is asked before its link is closed.
const MAX_SOLICITATIONS: u32 = 8;
