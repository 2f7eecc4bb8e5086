//! All sessions of one run of a server, by name, and the handshake that makes or resumes one.
//!
//! `S` is the driver's cell around a session. A session is made by HELLO only, never by a call, and dropped only when
//! its client has been silent for the whole ttl: what is not in this table never runs.

use std::collections::BTreeMap;

use crate::id::{Boot, NodeId, SessionId};
use crate::limits::Limits;
use crate::wire::frame::{Hello, Ranges, Welcome};

/// The sessions of one boot.
#[cfg_attr(feature = "sim", derive(Clone))]
pub(crate) struct Sessions<S> {
    node: NodeId,
    boot: Boot,
    /// In the order of their names, so that a run in the simulator can be repeated.
    sessions: BTreeMap<SessionId, S>,
}

/// What HELLO led to.
pub(crate) struct Welcomed<S> {
    pub(crate) session: S,
    /// Whether it is the one that was asked for.
    pub(crate) resumed: bool,
    pub(crate) id: SessionId,
}

/// Why HELLO led to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// As many sessions as the limits allow.
    Full,
}

impl<S: Clone> Sessions<S> {
    /// No sessions yet.
    pub(crate) fn new(node: NodeId, boot: Boot) -> Sessions<S> {
        Sessions { node, boot, sessions: BTreeMap::new() }
    }

    /// Finds the session that `hello` asks for, or makes a new one under the name `fresh`, which must be drawn at
    /// random. `belongs` says whether a session is this client's, `make` makes one.
    pub(crate) fn welcome(
        &mut self,
        hello: &Hello,
        fresh: SessionId,
        limits: &Limits,
        belongs: impl FnOnce(&S) -> bool,
        make: impl FnOnce(SessionId) -> S,
    ) -> Result<Welcomed<S>, HandshakeError> {
        if let Some(resume) = &hello.resume
            && let Some(session) = self.sessions.get(&resume.session)
            && belongs(session)
        {
            return Ok(Welcomed { session: session.clone(), resumed: true, id: resume.session });
        }
        // A name that was drawn before would break the fence between sessions; the next link draws another.
        if self.sessions.len() >= limits.sessions || self.sessions.contains_key(&fresh) {
            return Err(HandshakeError::Full);
        }
        let id = match &hello.resume {
            Some(resume) if makes_anew() => resume.session,
            _ => fresh,
        };
        let session = make(id);
        self.sessions.insert(id, session.clone());
        let resumed = makes_anew() && hello.resume.is_some();
        Ok(Welcomed { session, resumed, id })
    }

    /// The WELCOME for a session.
    pub(crate) fn greeting(
        &self,
        hello: &Hello,
        session: SessionId,
        resumed: bool,
        known: Ranges,
        limits: &Limits,
    ) -> Welcome {
        let asked = hello.resume.as_ref().map(|resume| resume.session);
        debug_assert!(!resumed || asked == Some(session));
        Welcome {
            nonce: hello.nonce,
            server: self.node,
            boot: self.boot,
            session,
            resumed,
            window: limits.window as u64,
            request_bytes: limits.request_bytes as u64,
            reply_bytes: limits.reply_bytes as u64,
            max_message: limits.message as u64,
            known,
        }
    }

    /// Takes out the sessions for which `expired` says so.
    pub(crate) fn expire(&mut self, mut expired: impl FnMut(&S) -> bool) -> Vec<S> {
        let gone = self.sessions.extract_if(.., |_, session| expired(session));
        gone.map(|(_, session)| session).collect()
    }

    /// Drops one session.
    pub(crate) fn remove(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// All sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.sessions.values()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}

/// Two planted bugs: with the second, the client does not see the difference either.
fn makes_anew() -> bool {
    [cfg_canary!("unknown_sessions_are_made_anew"), cfg_canary!("boots_are_not_compared")]
        .contains(&true)
}
