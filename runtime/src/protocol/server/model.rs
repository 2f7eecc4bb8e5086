//! What the exhaustive model of the simulation asks a session.

use std::sync::Arc;

use super::ServerSession;

impl ServerSession {
    /// A copy that shares nothing with this one.
    pub(crate) fn fork(&self) -> ServerSession {
        let mut copy = self.clone();
        copy.budget = Arc::new(self.budget.fork());
        copy
    }

    /// All that decides what the session does next, as text.
    pub(crate) fn fingerprint(&self) -> String {
        let calls = (&self.finished, self.max, &self.records, &self.replay, &self.ran);
        let counts = (self.orphans, self.unrecorded, self.running, self.reply_bytes);
        let link = (self.link, self.attached, self.draining, &self.to_send);
        format!("{:?}", (self.id, calls, counts, link))
    }
}
