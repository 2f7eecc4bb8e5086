//! A server's side: what arrives at its socket, and its end of each link.
//!
//! Nothing is kept for an address that has not shown that it receives, beyond [`Limits::unvalidated_links`] of them;
//! and never do more than three bytes leave to it for each that came.

mod link;

use core::net::SocketAddr;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use link::Opened;
pub(crate) use link::ServerEnd;

use super::cookie::Cookies;
use super::{MOST_ACK_DELAY, datagram_size, max_message};
use crate::id::NodeId;
use crate::limits::Limits;
use crate::time::Time;
use crate::wire::datagram::{
    Data, Datagram, SMALLEST_HELLO, decode, put_refused, put_retry, put_unknown, put_welcome,
};
use crate::wire::frame::{self, CloseCode, Frame, FrameError, Hello, Welcome};

/// What a server's socket knows: which links there are. It knows no sessions.
pub(crate) struct Endpoint {
    limits: Arc<Limits>,
    cookies: Cookies,
    links: HashMap<u64, Known>,
    by_hello: HashMap<(NodeId, u64), u64>,
    /// Links whose clients have not shown that they receive.
    unvalidated: usize,
    hints: Hints,
    rejected: u64,
}

/// A link, as far as the socket is concerned.
struct Known {
    hello: (NodeId, u64),
    from: SocketAddr,
    /// The datagram that opened it, for a client that asks again.
    welcome: Box<[u8]>,
    validated: bool,
}

/// What a datagram is.
#[derive(Debug)]
pub(crate) enum Arrival<'a> {
    /// A client opens a link: [`Endpoint::welcome`] or [`Endpoint::refuse`] it.
    Hello(Greeting),
    /// For a link.
    Data { link: u64, data: Data<'a> },
    /// Answered by what was appended to the reply.
    Answered,
    /// None of ours.
    Nothing,
}

/// A client's HELLO.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) hello: Hello,
    pub(crate) from: SocketAddr,
    /// It has shown that it receives at this address.
    pub(crate) validated: bool,
    max_datagram: u64,
    size: usize,
}

impl Endpoint {
    /// One without links. `key` must be drawn at random for this run of the server.
    pub(crate) fn new(limits: Arc<Limits>, key: [u64; 2]) -> Endpoint {
        Endpoint {
            limits,
            cookies: Cookies::new(key),
            links: HashMap::new(),
            by_hello: HashMap::new(),
            unvalidated: 0,
            hints: Hints::default(),
            rejected: 0,
        }
    }

    /// Sorts one datagram. What answers it at once is appended to `reply`, to be sent to where it came from.
    pub(crate) fn receive<'a>(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &'a [u8],
        reply: &mut Vec<u8>,
    ) -> Arrival<'a> {
        match decode(datagram) {
            Ok(Datagram::Data(data)) => self.data(now, from, data, reply),
            Ok(Datagram::Hello { max_datagram, cookie, frame })
                if datagram.len() >= SMALLEST_HELLO =>
            {
                match frame::decode(frame) {
                    Ok(Frame::Hello(hello)) => {
                        let size = datagram.len();
                        let validated = cookie.is_some_and(|cookie| {
                            self.cookies.check(now, from, hello.nonce, cookie)
                        });
                        let greeting = Greeting { hello, from, validated, max_datagram, size };
                        self.hello(now, greeting, reply)
                    }
                    Err(error @ FrameError::Version(_)) => self.other_version(frame, error, reply),
                    _ => self.reject(),
                }
            }
            _ => self.reject(),
        }
    }

    fn reject(&mut self) -> Arrival<'static> {
        self.rejected += 1;
        Arrival::Nothing
    }

    fn hello(&mut self, now: Time, greeting: Greeting, reply: &mut Vec<u8>) -> Arrival<'static> {
        let key = (greeting.hello.client, greeting.hello.nonce);
        if let Some(known) = self.by_hello.get(&key).and_then(|link| self.links.get(link)) {
            // Its WELCOME was lost; to another address it goes only if that one receives.
            if known.from == greeting.from || greeting.validated {
                reply.extend_from_slice(&known.welcome);
                return Arrival::Answered;
            }
            return self.reject();
        }
        if !greeting.validated
            && self.unvalidated >= self.limits.unvalidated_links
            && !cfg_canary!("cookies_are_not_asked_for")
        {
            let cookie = self.cookies.make(now, greeting.from, greeting.hello.nonce);
            put_retry(greeting.hello.nonce, cookie, reply);
            return Arrival::Answered;
        }
        Arrival::Hello(greeting)
    }

    /// The rest of HELLO cannot be read; the nonce stands where version 1 has it, or the answer finds nobody.
    fn other_version(
        &mut self,
        frame: &[u8],
        error: FrameError,
        reply: &mut Vec<u8>,
    ) -> Arrival<'static> {
        let Some(Ok(nonce)) = frame.get(HELLO_NONCE..HELLO_NONCE + 8).map(<[u8; 8]>::try_from)
        else {
            return self.reject();
        };
        refused(u64::from_be_bytes(nonce), CloseCode::Version, &error.to_string(), reply);
        Arrival::Answered
    }

    fn data<'a>(
        &mut self,
        now: Time,
        from: SocketAddr,
        data: Data<'a>,
        reply: &mut Vec<u8>,
    ) -> Arrival<'a> {
        let link = data.id;
        let Some(known) = self.links.get_mut(&link) else {
            self.rejected += 1;
            if self.hints.may_give(now) {
                put_unknown(link, reply);
                return Arrival::Answered;
            }
            return Arrival::Nothing;
        };
        if !known.validated && known.from == from {
            // Only who received WELCOME knows the link's id.
            known.validated = true;
            self.unvalidated -= 1;
        }
        Arrival::Data { link, data }
    }

    /// Opens a link whose session is made or resumed. `link` must be drawn at random. WELCOME is appended to `reply`.
    pub(crate) fn welcome(
        &mut self,
        now: Time,
        greeting: &Greeting,
        link: u64,
        mut welcome: Welcome,
        reply: &mut Vec<u8>,
    ) -> ServerEnd {
        let Greeting { hello, from, validated, max_datagram, size } = greeting;
        let limits = self.limits.clone();
        welcome.max_message = welcome.max_message.min(max_message(&limits) as u64);
        let datagram = datagram_size(&limits, *max_datagram);
        let start = reply.len();
        loop {
            let frame = type_and_body(|into| frame::put_welcome(&welcome, into));
            let most = datagram_size(&limits, u64::MAX);
            let delay = MOST_ACK_DELAY.as_micros() as u64;
            put_welcome(hello.nonce, link, most, delay, &frame, reply);
            let length = reply.len() - start;
            if welcome.known.is_empty() || length <= datagram.min(size * AMPLIFICATION) {
                break;
            }
            // Any part of what is known will do: the client sends the rest again, and the session knows it.
            welcome.known.truncate(welcome.known.len() / 2);
            reply.truncate(start);
        }
        let key = (hello.client, hello.nonce);
        let welcome = reply[start..].into();
        let known = Known { hello: key, from: *from, welcome, validated: *validated };
        if let Some(old) = self.links.insert(link, known) {
            self.forget(&old);
        }
        self.by_hello.insert(key, link);
        self.unvalidated += usize::from(!validated);
        let opened = Opened { link, nonce: hello.nonce, from: *from, validated: *validated };
        ServerEnd::new(now, limits, opened, datagram, self.cookies.clone())
    }

    /// Opens none, and says why.
    pub(crate) fn refuse(
        &mut self,
        greeting: &Greeting,
        code: CloseCode,
        text: &str,
        reply: &mut Vec<u8>,
    ) {
        refused(greeting.hello.nonce, code, text, reply);
    }

    /// A link is over.
    pub(crate) fn remove(&mut self, link: u64) {
        if let Some(known) = self.links.remove(&link) {
            self.forget(&known);
        }
    }

    fn forget(&mut self, known: &Known) {
        self.by_hello.remove(&known.hello);
        self.unvalidated -= usize::from(!known.validated);
    }

    /// How many links there are.
    #[cfg(test)]
    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// Datagrams that were of no link, or could not be read.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected
    }
}

/// Hints that a link is unknown: so many in a row, and so many a second.
#[derive(Default)]
struct Hints {
    given: u32,
    since: Option<Time>,
}

impl Hints {
    fn may_give(&mut self, now: Time) -> bool {
        if self.since.is_none_or(|since| since + HINT_PERIOD <= now) {
            *self = Hints { given: 0, since: Some(now) };
        }
        self.given += 1;
        self.given <= MOST_HINTS
    }
}

fn refused(nonce: u64, code: CloseCode, text: &str, reply: &mut Vec<u8>) {
    let frame = type_and_body(|into| frame::put_close(code, text, into));
    put_refused(nonce, &frame, reply);
}

/// A frame without its length.
fn type_and_body(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes);
    super::frames(&bytes).next().and_then(Result::ok).unwrap_or_default().to_vec()
}

/// Bytes that may leave for each that came from an address which has not shown that it receives (RFC 9000, section 8).
const AMPLIFICATION: usize = 3;
/// Where the nonce stands in HELLO: behind type, magic, version and client.
const HELLO_NONCE: usize = 1 + 4 + 1 + 16;
/// Hints in a period: enough for clients of a restarted server, little for who would use it as a weapon.
const MOST_HINTS: u32 = 256;
const HINT_PERIOD: Duration = Duration::from_millis(100);
