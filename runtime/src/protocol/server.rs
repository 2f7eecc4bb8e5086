//! The server's machine for one session: duplicates, saved replies, fences.
//!
//! Answers one question: may this call run now? A record exists before the handler's first instruction, and leaves only
//! when the client has acknowledged it or together with the whole session; never alone. Holds no sockets, no clock and
//! no objects: the driver says what it knows of handle and method, runs the handler, and brings the outcome.

mod acknowledged;
mod answers;
mod budget;
mod delivery;
#[cfg(feature = "sim")]
mod model;
mod planted;
mod record;
mod replay;
mod sessions;
mod target;
#[cfg(test)]
mod tests;
mod unrecorded;

use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) use answers::Outcome;
use answers::ToSend;
pub(crate) use budget::ProcessBudget;
use budget::Share;
use record::{Body, Record, State};
use replay::Replay;
pub(crate) use sessions::Sessions;
use target::TOO_LATE;
pub(crate) use target::Target;

use super::client::Violation;
use super::finished::{Finished, to_ranges};
use super::packet;
use super::seq_map::SeqMap;
use crate::error::FailureCode;
use crate::id::{NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::frame::{self, Call, Kind, Ranges, ReplyStatus};
use crate::wire::send_buffer::SendBuffer;

/// What one run of a server keeps for one client.
#[cfg_attr(feature = "sim", derive(Clone))]
pub(crate) struct ServerSession {
    id: SessionId,
    client: NodeId,
    limits: Arc<Limits>,
    budget: Share,
    /// Largest message that the client accepts, in bytes.
    max_message: usize,
    /// What the client said is finished.
    finished: Finished,
    /// Highest number seen, or passed by the floor.
    max: Seq,
    records: SeqMap<Record>,
    /// Records of running calls whose callers have given up.
    orphans: usize,
    /// Running calls without a record: those under maybe.
    unrecorded: usize,
    /// Running calls with a record, and what is reserved for their replies, in bytes.
    running: usize,
    reserved: usize,
    /// Bytes of saved replies.
    reply_bytes: usize,
    replay: Replay,
    /// Which of the latest at-least-once calls ran on this link, on which all copies are of the same attempt.
    ran: Replay,
    /// Answered calls whose replies are to be written when the link has room, in order.
    to_send: VecDeque<ToSend>,
    /// How many of them are kept nowhere else.
    once: usize,
    /// Number of the newest link, and whether it is up.
    link: u64,
    attached: bool,
    draining: bool,
    /// Frames travel in datagrams, whose channel sends an answer again until it has arrived.
    datagrams: bool,
    /// When the link was lost.
    detached: Time,
    /// When the oldest reply that the client does not acknowledge was saved or asked about, and how often it was.
    unacknowledged: Option<Time>,
    solicitations: u32,
    /// It was asked just now.
    asks: bool,
}

/// What is to be done about a CALL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Run it, and bring the outcome to [`ServerSession::complete`].
    Run,
    /// Nothing: it runs already, was answered from its record, is refused or is stale.
    Handled,
}

/// What is to be done about RESOLVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// It runs, and its caller has given up: tell the handler.
    Cancel,
    /// Nothing.
    Handled,
}

/// Where an admitted call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Its handler runs.
    Running,
    /// It is answered, or nobody waits for it.
    Over,
    /// There is no record of it: it runs under maybe, or ran under at-least-once.
    Unrecorded,
}

impl ServerSession {
    /// An empty session.
    pub(crate) fn new(
        id: SessionId,
        client: NodeId,
        limits: Arc<Limits>,
        budget: Arc<ProcessBudget>,
    ) -> ServerSession {
        ServerSession {
            id,
            client,
            max_message: limits.message,
            limits,
            budget: Share::new(budget),
            finished: Finished::default(),
            max: 0,
            records: SeqMap::default(),
            orphans: 0,
            unrecorded: 0,
            running: 0,
            reserved: 0,
            reply_bytes: 0,
            replay: Replay::default(),
            ran: Replay::default(),
            to_send: VecDeque::new(),
            once: 0,
            link: 0,
            attached: false,
            draining: false,
            datagrams: false,
            detached: Time::ZERO,
            unacknowledged: None,
            solicitations: 0,
            asks: false,
        }
    }

    /// Makes its frames travel in datagrams.
    pub(crate) fn over_datagrams(mut self) -> ServerSession {
        self.datagrams = true;
        self
    }

    /// Whether its frames travel in datagrams: a session stays with the kind of link that it began on.
    pub(crate) fn is_over_datagrams(&self) -> bool {
        self.datagrams
    }

    /// Who the session is for.
    pub(crate) fn client(&self) -> NodeId {
        self.client
    }

    /// The session's name.
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// What happens until [`tell_budget`](Self::tell_budget) need not be told to the process's budget one by one.
    #[inline]
    pub(crate) fn hold_budget(&mut self) {
        self.budget.hold();
    }

    /// Tells the process's budget what was held back.
    #[inline]
    pub(crate) fn tell_budget(&mut self) {
        self.budget.tell();
    }

    /// Decides about a CALL before anything of it runs: answers it from its record, refuses it, or admits it.
    ///
    /// # Errors
    /// [`Violation`] if no correct client sends this.
    #[inline]
    pub(crate) fn admit(
        &mut self,
        now: Time,
        call: &Call<'_>,
        target: Target<'_>,
        out: &mut SendBuffer,
    ) -> Result<Admission, Violation> {
        let seq = call.seq;
        if call.floor > self.finished.floor() {
            self.finish_below(call.floor)?;
        }
        let unrecorded = match target {
            Target::Method { semantics, oneway, .. } | Target::Late { semantics, oneway } => {
                oneway || semantics == Semantics::Maybe
            }
            Target::Refused { .. } => false,
        };
        if unrecorded {
            return self.admit_unrecorded(call, target, out);
        }
        if self.finished.contains(seq) && !cfg_canary!("finished_calls_are_new") {
            frame::put_seq(Kind::Stale, seq, out.small());
            return Ok(Admission::Handled);
        }
        if cfg_canary!("repeats_are_known_by_time") {
            self.drop_old_answers(now);
        }
        if seq <= self.max && self.records.contains(seq) {
            if cfg_canary!("duplicates_run") {
                return Ok(Admission::Run);
            }
            #[cfg(farcall_canary)]
            if cfg_canary!("copies_in_bundles_run") && crate::canary::is_in_bundle() {
                return Ok(Admission::Run);
            }
            self.send_again(seq, out);
            return Ok(Admission::Handled);
        }
        self.admit_new(now, call, target, out)
    }

    fn admit_new(
        &mut self,
        now: Time,
        call: &Call<'_>,
        target: Target<'_>,
        out: &mut SendBuffer,
    ) -> Result<Admission, Violation> {
        self.check_new(call.seq)?;
        let refused = match target {
            Target::Refused { code, text } => Some((code, text)),
            Target::Late { .. } => Some(TOO_LATE),
            Target::Method { max_reply, .. } => self.refusal(call, self.reserve(max_reply)),
        };
        self.max = self.max.max(call.seq);
        if let Some((code, text)) = refused {
            let ran =
                self.replay.has_seen(call.seq) || call.attempt == 1 && self.ran.has_seen(call.seq);
            // A copy of a call that ran while it could: its answer must not be overtaken by a refusal.
            if !ran {
                self.save_refusal(now, call.seq, code, text, out);
            }
            return Ok(Admission::Handled);
        }
        let Target::Method { semantics, max_reply, .. } = target else {
            return Ok(Admission::Handled);
        };
        if semantics == Semantics::AtLeastOnce {
            self.ran.insert(call.seq);
        }
        let reserve = self.reserve(max_reply);
        self.running += 1;
        self.reserved += reserve;
        self.budget.begin();
        self.records.insert(call.seq, Record::running(semantics, reserve));
        Ok(Admission::Run)
    }

    /// Refuses a call of which only a part has come.
    pub(crate) fn refuse(
        &mut self,
        now: Time,
        seq: Seq,
        code: FailureCode,
        text: &str,
        out: &mut SendBuffer,
    ) -> Result<(), Violation> {
        if self.finished.contains(seq) || self.records.contains(seq) {
            return Ok(());
        }
        self.check_new(seq)?;
        self.max = self.max.max(seq);
        // A copy may have run on this link: under at-least-once it has no record, and its answer is on its way.
        if !self.replay.has_seen(seq) && !self.ran.has_seen(seq) {
            self.save_refusal(now, seq, code, text, out);
        }
        Ok(())
    }

    /// Whatever the method promises: a copy that comes later must not run either.
    fn save_refusal(
        &mut self,
        now: Time,
        seq: Seq,
        code: FailureCode,
        text: &str,
        out: &mut SendBuffer,
    ) {
        self.replay.insert(seq);
        let status = ReplyStatus::Failed(code);
        if !cfg_canary!("refusals_are_forgotten") {
            let body = Body::of(text.as_bytes());
            self.count_saved(now, body.len());
            self.records.insert(seq, Record::answered(status, body));
        }
        frame::put_reply(seq, status, text.as_bytes(), out.small());
    }

    /// Why a call that could run is not begun, if it is not.
    #[inline]
    fn refusal(&self, call: &Call<'_>, reserve: usize) -> Option<(FailureCode, &'static str)> {
        if self.draining && !cfg_canary!("runs_while_draining") {
            Some((FailureCode::ShuttingDown, "it takes no more calls"))
        } else if call.deadline_ms == Some(0) {
            Some((FailureCode::Expired, "no time was left when it arrived"))
        } else if self.records.len() + self.unrecorded + self.once >= self.limits.window {
            Some((FailureCode::Busy, "calls that were given up are still running"))
        } else if self.reply_bytes + self.reserved + reserve > self.limits.reply_bytes {
            Some((FailureCode::Busy, "too many reply bytes are unacknowledged"))
        } else if !self.budget.may_begin(&self.limits) {
            Some((FailureCode::Busy, "the process is at a limit of running calls or saved replies"))
        } else {
            None
        }
    }

    /// Bytes of reply budget that an admitted call is sure to have: what the method declares, or the default.
    fn reserve(&self, max_reply: Option<usize>) -> usize {
        max_reply.unwrap_or(self.limits.reply_reserve).min(self.limits.reply_bytes)
    }

    /// Whether a correct client can use this number for a call or a fence that has no record.
    fn check_new(&self, seq: Seq) -> Result<(), Violation> {
        if seq > self.max.saturating_add(MAX_JUMP) {
            Err(Violation("a call number far ahead"))
        } else if self.records.len() - self.orphans >= self.limits.window {
            Err(Violation("more unacknowledged calls than the window allows"))
        } else {
            Ok(())
        }
    }

    /// RESOLVE: the caller has given up and asks whether it ran.
    pub(crate) fn resolve(
        &mut self,
        now: Time,
        seq: Seq,
        out: &mut SendBuffer,
    ) -> Result<Resolved, Violation> {
        if self.finished.contains(seq) {
            frame::put_seq(Kind::Stale, seq, out.small());
            return Ok(Resolved::Handled);
        }
        if let Some(record) = self.records.get(seq) {
            if matches!(record.state, State::Running) {
                frame::put_seq(Kind::Executing, seq, out.small());
                return Ok(Resolved::Cancel);
            }
            self.send_again(seq, out);
            return Ok(Resolved::Handled);
        }
        self.check_new(seq)?;
        self.max = self.max.max(seq);
        self.replay.insert(seq);
        if !cfg_canary!("resolve_does_not_fence") {
            let body = Body::of(b"");
            self.count_saved(now, body.len());
            self.records.insert(seq, Record::answered(ReplyStatus::Fenced, body));
        }
        frame::put_reply(seq, ReplyStatus::Fenced, b"", out.small());
        Ok(Resolved::Handled)
    }

    /// A new link takes over, older ones get nothing any more. Returns the calls that the session knows.
    ///
    /// # Errors
    /// [`Violation`] if the link is not newer than the present one: HELLO of a link that the client has given up can
    /// arrive late, and must not take the replies with it. The link must be closed, the session goes on.
    pub(crate) fn attach(
        &mut self,
        link: u64,
        max_message: u64,
        finished: Option<(Seq, &Ranges)>,
    ) -> Result<Ranges, Violation> {
        if link <= self.link && !cfg_canary!("older_links_take_over") {
            return Err(Violation("a link that is older than the session's"));
        }
        if let Some((floor, ranges)) = finished {
            self.acknowledge(floor, ranges)?;
        }
        self.link = link;
        self.attached = true;
        self.ran = Replay::default();
        self.solicitations = 0;
        self.max_message =
            usize::try_from(max_message).unwrap_or(usize::MAX).min(match self.datagrams {
                true => packet::max_message(&self.limits),
                false => self.limits.message,
            });
        let known = self.known();
        self.forget_to_send();
        let answered = |seq: &Seq| self.records.get(*seq).is_some_and(Record::is_answered);
        let answered: VecDeque<_> = seqs(&known).filter(answered).map(ToSend::Saved).collect();
        self.to_send = answered;
        Ok(known)
    }

    /// The link is lost. Nothing is sent until another is attached; an older link's end says nothing.
    pub(crate) fn detach(&mut self, now: Time, link: u64) {
        if link == self.link {
            self.attached = false;
            self.detached = now;
            self.forget_to_send();
        }
    }

    /// Number of the newest link; 0 before the first.
    pub(crate) fn link(&self) -> u64 {
        self.link
    }

    /// Whether this link is the newest.
    #[inline]
    pub(crate) fn is_newest(&self, link: u64) -> bool {
        self.link == link
    }

    /// Whether the session may be dropped, records and all: its client has been silent for too long.
    pub(crate) fn is_expired(&self, now: Time) -> bool {
        !self.attached && self.detached + self.limits.session_ttl <= now
    }

    /// Whether the session has neither a link nor a record: it may be dropped when room is needed.
    pub(crate) fn is_unused(&self) -> bool {
        !self.attached && self.records.is_empty()
    }

    /// From now on nothing new begins; tells the client what there is.
    pub(crate) fn drain(&mut self, out: Option<&mut SendBuffer>) {
        self.draining = true;
        let known = if cfg_canary!("goaway_names_no_calls") { Ranges::new() } else { self.known() };
        if let Some(out) = out {
            frame::put_go_away(&known, out.small());
        }
    }

    /// Whether the client has said that the call is finished.
    pub(crate) fn is_finished(&self, seq: Seq) -> bool {
        self.finished.contains(seq)
    }

    /// Where a call stands that was admitted.
    pub(crate) fn progress(&self, seq: Seq) -> Progress {
        match self.records.get(seq) {
            Some(record) if record.is_answered() => Progress::Over,
            Some(_) => Progress::Running,
            None if self.finished.contains(seq) => Progress::Over,
            None => Progress::Unrecorded,
        }
    }

    /// How many handlers run.
    pub(crate) fn running(&self) -> usize {
        self.running + self.unrecorded
    }

    /// Saved replies that the client has not acknowledged, and their bytes.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn saved(&self) -> (usize, usize) {
        (self.records.len() - self.running, self.reply_bytes)
    }

    /// All records whose callers wait.
    fn known(&self) -> Ranges {
        let live = self.records.iter().filter(|(_, record)| !record.orphan);
        let mut seqs: Vec<Seq> = live.map(|(seq, _)| seq).collect();
        seqs.sort_unstable();
        to_ranges(seqs)
    }
}

impl Drop for ServerSession {
    fn drop(&mut self) {
        self.budget.unsave(self.reply_bytes);
    }
}

fn seqs(ranges: &Ranges) -> impl Iterator<Item = Seq> + '_ {
    ranges.iter().flat_map(|&(start, end)| start..end)
}

/// How far ahead of all numbers seen a new one may be.
const MAX_JUMP: u64 = 1 << 32;
