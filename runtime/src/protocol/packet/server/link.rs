//! A server's end of one link: the channel, and the path that its datagrams take.
//!
//! What the server sends goes to one address at a time. Another one, from which the client's datagrams come, is asked
//! first whether the client receives there.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::AMPLIFICATION;
use crate::limits::Limits;
use crate::protocol::packet::channel::{Channel, ChannelConfig, Taken};
use crate::protocol::packet::cookie::Cookies;
use crate::protocol::packet::pieces::{PieceLimits, Pieces};
use crate::protocol::packet::rtt::Rtt;
use crate::protocol::packet::{
    Delivery, Ended, GIVEN_UP_MESSAGES, MOST_ACK_DELAY, PacketStatistics, SILENT_INTERVALS,
    max_message,
};
use crate::protocol::server::ServerSession;
use crate::time::Time;
use crate::wire::datagram::Data;
use crate::wire::frame::{Kind, put_nonce};
use crate::wire::send_buffer::SendBuffer;

/// A server's end of one link: channel and path.
pub(crate) struct ServerEnd {
    limits: Arc<Limits>,
    channel: Channel,
    link: u64,
    cookies: Cookies,
    address: SocketAddr,
    /// An address that the client may have moved to.
    candidate: Option<Candidate>,
    challenges: u64,
    /// The client has sent something on this link, or a cookie before it.
    confirmed: bool,
    /// When something came last, or the link was made.
    heard: Time,
    /// When WELCOME was sent, until the client's first datagram has shown how long a round trip takes at most.
    welcomed: Option<Time>,
}

/// An address from which datagrams of the link came, and which has not shown that it receives.
struct Candidate {
    address: SocketAddr,
    nonce: u64,
    received: usize,
    sent: usize,
    next: Time,
}

/// A link that is being opened.
pub(super) struct Opened {
    pub(super) link: u64,
    pub(super) nonce: u64,
    pub(super) from: SocketAddr,
    pub(super) validated: bool,
}

impl ServerEnd {
    pub(super) fn new(
        now: Time,
        limits: Arc<Limits>,
        opened: Opened,
        datagram: usize,
        cookies: Cookies,
    ) -> ServerEnd {
        let Opened { link, nonce, from, validated } = opened;
        let config = ChannelConfig {
            id: nonce,
            datagram,
            peer_ack_delay: MOST_ACK_DELAY,
            rtt: Rtt::guessed(FIRST_RTT),
            most_patience: MOST_PATIENCE,
            most_probes: Some(MOST_PROBES),
            progress_timeout: limits.progress_timeout,
            seed: cookies.make(Time::ZERO, from, link),
            go_back: limits.go_back_n,
        };
        let message = max_message(&limits);
        let pieces = Pieces::new(PieceLimits {
            message,
            bytes: limits.request_bytes.max(message),
            messages: limits.window.saturating_add(GIVEN_UP_MESSAGES),
        });
        ServerEnd {
            limits,
            channel: Channel::new(now, config, pieces),
            link,
            cookies,
            address: from,
            candidate: None,
            challenges: 0,
            confirmed: validated,
            heard: now,
            welcomed: Some(now),
        }
    }

    /// Room for frames in a datagram, in bytes: for [`SendBuffer::for_datagrams`].
    pub(crate) fn room(&self) -> usize {
        self.channel.room()
    }

    /// Whether a datagram is new; nothing of one that is not may be handled.
    #[inline]
    pub(crate) fn accept(
        &mut self,
        now: Time,
        from: SocketAddr,
        data: &Data<'_>,
        size: usize,
    ) -> bool {
        if !self.channel.accept(now, data.number, size) {
            return false;
        }
        self.heard = now;
        if let Some(welcomed) = self.welcomed.take() {
            self.channel.guess_rtt(now.since(welcomed));
        }
        self.confirmed |= from == self.address;
        if from != self.address {
            self.moved(now, from, size);
        }
        true
    }

    /// Something came from another address: it is asked whether the client is there.
    fn moved(&mut self, now: Time, from: SocketAddr, size: usize) {
        match &mut self.candidate {
            Some(candidate) if candidate.address == from => {
                candidate.received += size;
                if candidate.next == Time::NEVER {
                    candidate.next = now;
                }
            }
            _ => {
                self.challenges += 1;
                let nonce = self.cookies.make(now, from, self.link ^ self.challenges);
                self.candidate =
                    Some(Candidate { address: from, nonce, received: size, sent: 0, next: now });
            }
        }
        if cfg_canary!("paths_are_not_challenged") {
            self.address = from;
        }
    }

    /// Whether a frame (type and body) of an accepted datagram is for the session, and is taken; else it is for
    /// [`handle`](Self::handle), which takes the others too.
    #[inline]
    pub(crate) fn passes_on(&mut self, now: Time, frame: &[u8]) -> bool {
        self.channel.passes_on(now, frame)
    }

    /// Handles one frame (type and body) of an accepted datagram, as far as it is the channel's.
    ///
    /// # Errors
    /// Why the link is over.
    #[inline]
    pub(crate) fn handle(
        &mut self,
        now: Time,
        frame: &[u8],
        session: &mut ServerSession,
        room: bool,
    ) -> Result<Taken, Ended> {
        match self.channel.handle(now, frame, session, room)? {
            Taken::PathResponse(nonce) => {
                if let Some(candidate) = self.candidate.take_if(|path| path.nonce == nonce) {
                    self.address = candidate.address;
                    self.confirmed = true;
                }
                Ok(Taken::Here)
            }
            taken => Ok(taken),
        }
    }

    /// All frames of an accepted datagram were handled.
    #[inline]
    pub(crate) fn datagram_handled(&mut self) {
        self.channel.datagram_handled();
    }

    /// All datagrams of a batch were handled.
    #[inline]
    pub(crate) fn after_input(&mut self) {
        self.channel.after_input();
    }

    /// Appends the next datagram to `into`, if one may leave now; returns where it goes.
    pub(crate) fn transmit(
        &mut self,
        now: Time,
        session: &mut ServerSession,
        out: &mut SendBuffer,
        into: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        if let Some(address) = self.challenge(now, into) {
            return Some(address);
        }
        if !self.confirmed {
            return None;
        }
        if session.take_asks() {
            self.channel.speak_up();
        }
        session.flush(out);
        // Replies whose callers have gone.
        out.abort_unwanted(|seq| session.is_message_wanted(seq));
        if self.channel.transmit(now, out, session, into) {
            return Some(self.address);
        }
        out.compact();
        if !session.has_waiting_replies() {
            return None;
        }
        // There is room again for replies that waited.
        session.flush(out);
        self.channel.transmit(now, out, session, into).then_some(self.address)
    }

    /// Asks the new address, now and then, with at most three bytes for each that came from it.
    fn challenge(&mut self, now: Time, into: &mut Vec<u8>) -> Option<SocketAddr> {
        let candidate = self.candidate.as_mut().filter(|candidate| candidate.next <= now)?;
        let allowed = candidate.received * AMPLIFICATION;
        if candidate.sent + CHALLENGE > allowed && !cfg_canary!("amplification_is_not_limited") {
            candidate.next = Time::NEVER;
            return None;
        }
        let start = into.len();
        let nonce = candidate.nonce;
        candidate.next = now + CHALLENGE_PAUSE;
        self.channel.transmit_alone(now, into, |frames| {
            put_nonce(Kind::PathChallenge, nonce, frames);
        });
        candidate.sent += into.len() - start;
        Some(candidate.address)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, the session's own timers apart.
    pub(crate) fn next_timeout(&self) -> Time {
        // Until the client is known to receive, nothing of the channel may leave.
        let channel = if self.confirmed { self.channel.next_timeout() } else { Time::NEVER };
        let silence = self.heard + self.patience();
        let challenge = self.candidate.as_ref().map_or(Time::NEVER, |candidate| candidate.next);
        channel.min(silence).min(challenge)
    }

    /// Does what is due; [`transmit`](Self::transmit) comes after it.
    ///
    /// # Errors
    /// Why the link is over.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Result<(), Ended> {
        if self.heard + self.patience() <= now {
            return Err(Ended::Silent);
        }
        if self.channel.handle_timeout(now) { Ok(()) } else { Err(Ended::Stalled) }
    }

    /// How long the client may be silent.
    fn patience(&self) -> Duration {
        match self.confirmed {
            true => self.limits.ping_interval * SILENT_INTERVALS,
            // The client repeats HELLO until the handshake's time is over, and is heard of after the last WELCOME.
            false => self.limits.handshake_timeout * 2,
        }
    }

    /// Whether all that was sent is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        !self.channel.awaits() || !self.confirmed
    }

    /// Where the client is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of partly received messages.
    pub(crate) fn assembling(&self) -> usize {
        self.channel.assembling()
    }

    /// What the link did so far.
    pub(crate) fn statistics(&self) -> PacketStatistics {
        self.channel.statistics()
    }
}

/// A guess, until the first acknowledgement.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Longest wait before something is sent again.
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// Probes without a word after which nothing more is sent to a client until it is heard of.
const MOST_PROBES: u32 = 8;
/// Most bytes of a datagram with a challenge, and the pause between two.
const CHALLENGE: usize = 32;
const CHALLENGE_PAUSE: Duration = Duration::from_millis(250);
