//! A client's end of one link: the handshake, then the channel and the client's machine.

use std::sync::Arc;
use std::time::Duration;

use super::channel::{Bad, Channel, ChannelConfig, Taken};
use super::pieces::{PieceLimits, Pieces};
use super::rtt::Rtt;
use super::{
    Ended, GIVEN_UP_MESSAGES, MOST_ACK_DELAY, PacketStatistics, datagram_size, frames, max_message,
};
use crate::error::FailureCode;
use crate::limits::Limits;
use crate::protocol::assembly::Excess;
use crate::protocol::client::{Client, Health};
use crate::time::Time;
use crate::wire::datagram::{
    DATA_OVERHEAD, Data, Datagram, HELLO_SIZE, SMALLEST_HELLO, decode, put_hello,
};
use crate::wire::frame::{self, Frame, Kind, put_nonce};
use crate::wire::send_buffer::{SendBuffer, UNFINISHED};

/// A client's end of one link.
pub(crate) struct ClientEnd {
    limits: Arc<Limits>,
    nonce: u64,
    stage: Stage,
    rejected: u64,
    /// Frames were taken, and who wrote them was not told yet.
    took: bool,
}

enum Stage {
    Greeting(Box<Greeting>),
    Open(Box<Open>),
}

/// HELLO is repeated until it is answered.
struct Greeting {
    /// Type and body.
    hello: Vec<u8>,
    cookie: Option<u64>,
    /// How often it was sent, with and without the cookie, and when the last was.
    tries: u32,
    sent: Time,
    next: Time,
}

struct Open {
    link: u64,
    channel: Channel,
    /// Since when the server has been silent, and for how long it may be while calls wait.
    heard: Time,
    patience: Duration,
}

impl ClientEnd {
    /// To be called after [`Client::connected`] with this nonce, whose HELLO is taken out of `out`.
    pub(crate) fn new(
        now: Time,
        limits: Arc<Limits>,
        nonce: u64,
        out: &mut SendBuffer,
    ) -> ClientEnd {
        let hello = out.next_frames(usize::MAX).and_then(|(frames, _)| {
            super::frames(frames).next().and_then(Result::ok).map(<[u8]>::to_vec)
        });
        out.compact();
        let greeting = Greeting {
            hello: hello.unwrap_or_default(),
            cookie: None,
            tries: 0,
            sent: now,
            next: now,
        };
        let stage = Stage::Greeting(Box::new(greeting));
        ClientEnd { limits, nonce, stage, rejected: 0, took: false }
    }

    /// Room for frames in the largest datagram that a client with these limits sends, in bytes.
    pub(crate) fn room(limits: &Limits) -> usize {
        datagram_size(limits, u64::MAX) - DATA_OVERHEAD
    }

    /// Handles one received datagram; what is not of this link is dropped.
    ///
    /// # Errors
    /// Why the link is over.
    pub(crate) fn receive<W>(
        &mut self,
        now: Time,
        datagram: &[u8],
        client: &mut Client<W>,
        out: &mut SendBuffer,
    ) -> Result<(), Ended> {
        let Ok(decoded) = decode(datagram) else {
            self.rejected += 1;
            return Ok(());
        };
        match (&mut self.stage, decoded) {
            (Stage::Open(open), Datagram::Data(data)) if data.id == self.nonce => {
                open.receive(now, &data, datagram.len(), client, out)
            }
            (Stage::Open(open), Datagram::Unknown { link }) if link == open.link => {
                if cfg_canary!("hints_are_believed") {
                    client.forget_session();
                }
                Err(Ended::Unknown)
            }
            (Stage::Greeting(greeting), Datagram::Retry { nonce, cookie })
                if nonce == self.nonce && greeting.cookie != Some(cookie) =>
            {
                greeting.cookie = Some(cookie);
                greeting.next = now;
                Ok(())
            }
            (
                Stage::Greeting(_),
                Datagram::Welcome { nonce, link, max_datagram, max_ack_delay_us, frame },
            ) if nonce == self.nonce => {
                let peer_ack_delay = Duration::from_micros(max_ack_delay_us).min(LONGEST_ACK_DELAY);
                let frame = frame::decode(frame)?;
                self.open(now, link, max_datagram, peer_ack_delay, out);
                client.handle(now, &frame, out)?;
                Ok(())
            }
            (Stage::Greeting(_), Datagram::Refused { nonce, frame }) if nonce == self.nonce => {
                match frame::decode(frame)? {
                    Frame::Close { code, text } => Err(closed(code, text)),
                    _ => Ok(()),
                }
            }
            _ => {
                self.rejected += 1;
                Ok(())
            }
        }
    }

    fn open(
        &mut self,
        now: Time,
        link: u64,
        max_datagram: u64,
        peer_ack_delay: Duration,
        out: &mut SendBuffer,
    ) {
        let Stage::Greeting(greeting) = &self.stage else { return };
        // Of a repeated HELLO nobody knows which one was answered.
        let rtt = match greeting.tries {
            0 | 1 => Rtt::new(now.since(greeting.sent)),
            _ => Rtt::guessed(FIRST_HELLO),
        };
        let limits = &self.limits;
        let config = ChannelConfig {
            id: link,
            datagram: datagram_size(limits, max_datagram),
            peer_ack_delay,
            rtt,
            most_patience: MOST_PATIENCE,
            most_probes: None,
            progress_timeout: limits.progress_timeout,
            seed: self.nonce ^ link,
            go_back: limits.go_back_n,
        };
        let message = max_message(limits);
        let pieces = Pieces::new(PieceLimits {
            message,
            // A server may have larger budgets, but has no more replies unfinished at a time than this.
            bytes: limits.reply_bytes.max(message.saturating_mul(UNFINISHED)),
            messages: limits.window.saturating_add(GIVEN_UP_MESSAGES),
        });
        let mut channel = Channel::new(now, config, pieces);
        out.set_room(channel.room());
        // With it the server knows that we receive at our address.
        channel.say(|control| put_nonce(Kind::Ping, 0, control));
        let open = Open { link, channel, heard: now, patience: LEAST_PATIENCE };
        self.stage = Stage::Open(Box::new(open));
    }

    /// To be called when all datagrams of a batch were handled.
    pub(crate) fn after_input<W>(
        &mut self,
        now: Time,
        client: &mut Client<W>,
        out: &mut SendBuffer,
    ) {
        if let Stage::Open(open) = &mut self.stage {
            open.channel.after_input();
        }
        client.after_input(now, out);
    }

    /// Appends the next datagram to `into`, if one may leave now.
    pub(crate) fn transmit<W>(
        &mut self,
        now: Time,
        client: &mut Client<W>,
        out: &mut SendBuffer,
        into: &mut Vec<u8>,
    ) -> bool {
        match &mut self.stage {
            Stage::Greeting(greeting) => greeting.transmit(now, &self.limits, into),
            Stage::Open(open) => {
                if open.channel.transmit(now, out, client, into) {
                    self.took = true;
                    return true;
                }
                if !std::mem::take(&mut self.took) {
                    return false;
                }
                // There is room again for what waited.
                out.compact();
                client.drained(now, out);
                self.took = open.channel.transmit(now, out, client, into);
                self.took
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; it may find nothing to do then.
    pub(crate) fn next_timeout<W>(&self, client: &Client<W>) -> Time {
        let own = match &self.stage {
            Stage::Greeting(greeting) => greeting.next,
            Stage::Open(open) => open.channel.next_timeout().min(open.ask_at(client)),
        };
        own.min(client.next_timeout())
    }

    /// Does what is due; [`transmit`](Self::transmit) comes after it.
    ///
    /// # Errors
    /// Why the link is over.
    pub(crate) fn handle_timeout<W>(
        &mut self,
        now: Time,
        client: &mut Client<W>,
        out: &mut SendBuffer,
    ) -> Result<(), Ended> {
        if client.handle_timeout(now, out) == Health::Silent {
            return Err(Ended::Silent);
        }
        let Stage::Open(open) = &mut self.stage else { return Ok(()) };
        if !open.channel.handle_timeout(now) {
            return Err(Ended::Stalled);
        }
        if open.ask_at(client) <= now {
            open.heard = now;
            open.patience = (open.patience * 3 / 2).min(LONGEST_PATIENCE);
            open.channel.say(|control| put_nonce(Kind::Ping, now.as_nanos(), control));
        }
        Ok(())
    }

    /// Whether all that was sent is acknowledged and nothing is owed.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.stage {
            Stage::Greeting(_) => true,
            Stage::Open(open) => !open.channel.awaits(),
        }
    }

    /// What the link did so far.
    pub(crate) fn statistics(&self) -> PacketStatistics {
        let channel = match &self.stage {
            Stage::Greeting(_) => PacketStatistics::default(),
            Stage::Open(open) => open.channel.statistics(),
        };
        PacketStatistics { rejected: self.rejected, ..channel }
    }
}

impl Greeting {
    fn transmit(&mut self, now: Time, limits: &Limits, into: &mut Vec<u8>) -> bool {
        if self.next > now {
            return false;
        }
        let size = if self.tries < LARGE_HELLOS { HELLO_SIZE } else { SMALLEST_HELLO };
        let most = datagram_size(limits, u64::MAX);
        put_hello(most, self.cookie, &self.hello, size.min(most), into);
        self.sent = now;
        self.next = now + FIRST_HELLO.saturating_mul(1 << self.tries.min(16)).min(LONGEST_HELLO);
        self.tries += 1;
        true
    }
}

impl Open {
    fn receive<W>(
        &mut self,
        now: Time,
        data: &Data<'_>,
        size: usize,
        client: &mut Client<W>,
        out: &mut SendBuffer,
    ) -> Result<(), Ended> {
        if !self.channel.accept(now, data.number, size) {
            return Ok(());
        }
        client.heard(now);
        self.heard = now;
        for frame in frames(data.frames) {
            let frame = frame?;
            match self.channel.handle(now, frame, client, true)? {
                Taken::Here | Taken::PathResponse(_) => continue,
                Taken::Frame => {
                    if let Some(Ok(reply)) = &frame::decode_reply(frame) {
                        client.handle_reply(now, reply)?;
                    } else {
                        match frame::decode(frame)? {
                            Frame::Close { code, text } => return Err(closed(code, text)),
                            frame => client.handle(now, &frame, out)?,
                        }
                    }
                }
                Taken::Message(message) => {
                    client.handle(now, &frame::decode(&message)?, out)?;
                    // The server keeps a large reply until it is told that it was put together.
                    client.acknowledge_soon(now);
                }
                Taken::Refused { excess: Excess::Message, .. } => {
                    return Err(Ended::Violation("a reply over the limit"));
                }
                // Too many runs of calls under at-least-once answer at a time: the next link brings what is wanted.
                Taken::Refused { excess: Excess::Room, .. } => return Err(Ended::Stalled),
            }
            self.patience = LEAST_PATIENCE.max(self.channel.rtt().smoothed() * 2);
        }
        self.channel.datagram_handled();
        Ok(())
    }

    /// When the server is asked whether it is still there, since calls wait and nothing else would show it.
    fn ask_at<W>(&self, client: &Client<W>) -> Time {
        if client.in_flight() == 0 || self.channel.awaits() {
            return Time::NEVER;
        }
        self.heard + self.patience
    }
}

impl From<Bad> for Ended {
    fn from(bad: Bad) -> Ended {
        match bad {
            Bad::Frame(error) => error.into(),
            Bad::Violation(violation) => violation.into(),
        }
    }
}

fn closed(code: frame::CloseCode, text: &str) -> Ended {
    Ended::Closed { code, text: FailureCode::printable(text.as_bytes()) }
}

/// How long the first HELLO waits for its answer, and how long the later ones do.
const FIRST_HELLO: Duration = Duration::from_millis(500);
const LONGEST_HELLO: Duration = Duration::from_secs(1);
/// HELLOs of full size, before smaller ones are tried.
const LARGE_HELLOS: u32 = 3;
/// Longest wait before something is sent again.
const MOST_PATIENCE: Duration = Duration::from_secs(4);
/// The server's silence is borne for so long while calls wait, before it is asked; and at most so long.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);
/// A server that wants longer for its acknowledgements gets this.
const LONGEST_ACK_DELAY: Duration = Duration::from_millis(200);
const _: () = assert!(MOST_ACK_DELAY.as_millis() <= LONGEST_ACK_DELAY.as_millis());
