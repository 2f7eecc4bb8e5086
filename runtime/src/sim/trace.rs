//! What happened in a run: a hash over all of it, and the last part of it as text.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::semantics::Semantics;

/// One event. What is in it goes into the hash, whether it is printed or not.
#[derive(Debug, Clone, Hash)]
pub(super) enum Event {
    Started(Arc<str>),
    Crashed(Arc<str>),
    PoweredOff(Arc<str>),
    Connected { connection: u64, from: Arc<str>, to: Arc<str> },
    Refused { from: Arc<str>, to: Arc<str> },
    Sent { connection: u64, from: Arc<str>, to: Arc<str>, bytes: usize, digest: u64 },
    Received { connection: u64, bytes: usize },
    Cut { connection: u64 },
    HalfOpened { connection: u64, notices: Arc<str> },
    Closed { connection: u64, by: Arc<str> },
    Blocked { from: Arc<str>, to: Arc<str> },
    Healed,
    Thrown { from: Arc<str>, to: Arc<str>, bytes: usize, digest: u64, lost: bool },
    Rebound(Arc<str>),
    Called { key: u64, semantics: Semantics },
    Ran { key: u64, run: u32 },
    Told { key: u64, told: String },
    Note(String),
}

/// The events of a run so far.
pub(super) struct Trace {
    hash: Fnv,
    /// What was written to the network, which soon is much.
    traffic: VecDeque<Noted>,
    /// Everything else.
    deeds: VecDeque<Noted>,
    events: u64,
}

/// An event with its number and time.
struct Noted {
    number: u64,
    at: Duration,
    event: Event,
}

impl Trace {
    pub(super) fn new() -> Trace {
        let (traffic, deeds) = Default::default();
        Trace { hash: Fnv::default(), traffic, deeds, events: 0 }
    }

    pub(super) fn add(&mut self, at: Duration, event: Event) {
        at.hash(&mut self.hash);
        event.hash(&mut self.hash);
        self.events += 1;
        let last = match event {
            Event::Received { .. } => return,
            Event::Sent { .. } | Event::Thrown { .. } => &mut self.traffic,
            _ => &mut self.deeds,
        };
        if last.len() == KEPT_EVENTS {
            last.pop_front();
        }
        last.push_back(Noted { number: self.events, at, event });
    }

    /// The hash over all events and their times.
    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many events there were.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The last events, a line each.
    pub(super) fn transcript(&self) -> String {
        let mut all: Vec<&Noted> = self.traffic.iter().chain(&self.deeds).collect();
        all.sort_by_key(|noted| noted.number);
        let mut text = String::new();
        for Noted { at, event, .. } in all {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:>9.3}s  {event}", at.as_secs_f64());
        }
        text
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Started(host) => write!(f, "{host} starts"),
            Event::Crashed(host) => write!(f, "{host} crashes"),
            Event::PoweredOff(host) => write!(f, "{host} loses its power"),
            Event::Connected { connection, from, to } => {
                write!(f, "{from} -> {to}  connected as #{connection}")
            }
            Event::Refused { from, to } => write!(f, "{from} -> {to}  refused"),
            Event::Sent { connection, from, to, bytes, .. } => {
                write!(f, "{from} -> {to}  {bytes} bytes on #{connection}")
            }
            Event::Received { connection, bytes } => {
                write!(f, "{bytes} bytes of #{connection} read")
            }
            Event::Cut { connection } => write!(f, "#{connection} is cut"),
            Event::HalfOpened { connection, notices } => {
                write!(f, "#{connection} is lost, and only {notices} notices")
            }
            Event::Closed { connection, by } => write!(f, "#{connection} is closed by {by}"),
            Event::Blocked { from, to } => write!(f, "nothing arrives from {from} at {to}"),
            Event::Healed => f.write_str("the network is healed"),
            Event::Thrown { from, to, bytes, lost, .. } => {
                let lost = if *lost { ", lost" } else { "" };
                write!(f, "{from} -> {to}  datagram of {bytes} bytes{lost}")
            }
            Event::Rebound(host) => write!(f, "the clients on {host} have other addresses"),
            Event::Called { key, semantics } => write!(f, "call {key:#x} ({semantics})"),
            Event::Ran { key, run } => write!(f, "call {key:#x} runs, for the {run}. time"),
            Event::Told { key, told } => write!(f, "call {key:#x} ends: {told}"),
            Event::Note(text) => f.write_str(text),
        }
    }
}

/// FNV-1a: the same on every machine, and fast on the short pieces of an event.
#[derive(Clone)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What bytes are, in one number.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    // By words: messages are large, and only equality counts.
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash.0 = (hash.0 ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.write(rest);
    hash.finish()
}

/// Writes of a run that its transcript shows, and other events: the last of each.
const KEPT_EVENTS: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_and_its_time_count() {
        let hash = |events: &[(u64, &str)]| {
            let mut trace = Trace::new();
            for (at, text) in events {
                trace.add(Duration::from_millis(*at), Event::Note((*text).into()));
            }
            trace.hash()
        };
        assert_eq!(hash(&[(1, "a"), (2, "b")]), hash(&[(1, "a"), (2, "b")]));
        assert_ne!(hash(&[(1, "a"), (2, "b")]), hash(&[(2, "b"), (1, "a")]));
        assert_ne!(hash(&[(1, "a")]), hash(&[(2, "a")]));
    }

    #[test]
    fn a_transcript_keeps_the_end() {
        let mut trace = Trace::new();
        for number in 0..=KEPT_EVENTS {
            trace.add(Duration::ZERO, Event::Note(format!("<{number}>")));
        }
        let text = trace.transcript();
        assert!(!text.contains("<0>") && text.contains(&format!("<{KEPT_EVENTS}>")));
    }
}
