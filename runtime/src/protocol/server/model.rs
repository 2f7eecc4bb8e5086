//! What the exhaustive model of the simulation asks a session.

use super::ServerSession;

impl ServerSession {
    /// All that decides what the session does next, as text.
    pub(crate) fn fingerprint(&self) -> String {
        let calls = (&self.finished, self.max, &self.records, &self.replay, &self.ran);
        let counts = (self.orphans, self.unrecorded, self.running, self.reply_bytes);
        let link = (self.link, self.attached, self.draining, &self.to_send);
        format!("{:?}", (self.id, calls, counts, link))
    }
}
