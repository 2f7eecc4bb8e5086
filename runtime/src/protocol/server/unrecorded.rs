//! Calls under maybe, of which no record is kept.

use super::{Admission, MAX_JUMP, ServerSession, TOO_LATE, Target};
use crate::protocol::client::Violation;
use crate::wire::frame::{self, Call, ReplyStatus};
use crate::wire::send_buffer::SendBuffer;

impl ServerSession {
    /// A call under maybe: no record, only a window of numbers against repeats.
    pub(super) fn admit_unrecorded(
        &mut self,
        call: &Call<'_>,
        target: Target<'_>,
        out: &mut SendBuffer,
    ) -> Result<Admission, Violation> {
        if call.seq > self.max.saturating_add(MAX_JUMP) {
            return Err(Violation("a call number far ahead"));
        }
        if !self.replay.insert(call.seq) && !cfg_canary!("maybe_without_replay_window") {
            return Ok(Admission::Handled);
        }
        self.max = self.max.max(call.seq);
        let refused = match target {
            Target::Late { .. } => Some(TOO_LATE),
            _ => self.refusal(call, 0),
        };
        if let Some((code, text)) = refused {
            if !matches!(
                target,
                Target::Method { oneway: true, .. } | Target::Late { oneway: true, .. }
            ) {
                let status = ReplyStatus::Failed(code);
                out.mark_once();
                frame::put_reply(call.seq, status, text.as_bytes(), out.small());
            }
            return Ok(Admission::Handled);
        }
        self.unrecorded += 1;
        self.budget.begin();
        Ok(Admission::Run)
    }
}
