//! What passes between machines and network, held against what may be sent to whom.
//!
//! Knows what each server has shown to each address, so that it knows without the server which addresses have proved
//! that they receive.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::super::caller::Task;
use super::super::world::Step;
use super::frames_of;
use crate::sim::oracle::broken;
use crate::time::Time;
use crate::wire::datagram::{self, Datagram};
use crate::wire::frame::Frame;

/// All that passed.
#[derive(Default)]
pub(in super::super) struct Edge {
    accounts: BTreeMap<(usize, SocketAddr), Account>,
    /// How often calls under maybe were put on the wire, by their place in the run.
    copies: HashMap<u32, u32>,
    /// Links whose clients have not shown that they receive, and where WELCOME went.
    unproved: BTreeMap<(usize, u64), SocketAddr>,
    /// When datagrams left, oldest first.
    sent: Vec<Time>,
}

/// A server and an address.
#[derive(Default)]
struct Account {
    /// Bytes from there and to there.
    received: usize,
    sent: usize,
    /// Cookies, link ids and challenges that were sent there.
    shown: Vec<u64>,
    /// One of them came back.
    validated: bool,
}

impl Edge {
    /// A datagram arrives at a server.
    pub(super) fn reaches_server(&mut self, server: usize, from: SocketAddr, bytes: &[u8]) {
        let account = self.accounts.entry((server, from)).or_default();
        account.received += bytes.len();
        match datagram::decode(bytes) {
            Ok(Datagram::Hello { cookie: Some(cookie), .. }) => account.comes_back(cookie),
            Ok(Datagram::Data(data)) => {
                account.comes_back(data.id);
                if self.unproved.get(&(server, data.id)) == Some(&from) {
                    self.unproved.remove(&(server, data.id));
                }
                for frame in frames_of(&data) {
                    if let Frame::PathResponse(nonce) = frame {
                        account.comes_back(nonce);
                    }
                }
            }
            _ => {}
        }
    }

    /// I12: not more than three times what came from there, until it has shown that it receives.
    pub(super) fn leaves_server(
        &mut self,
        now: Time,
        server: usize,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Step {
        self.sent.push(now);
        let account = self.accounts.entry((server, to)).or_default();
        account.sent += bytes.len();
        if !account.validated && account.sent > 3 * account.received {
            let (sent, received) = (account.sent, account.received);
            let what = format!("{sent} B to {to}, which sent {received} B and proved nothing");
            return Err(broken("I12", what));
        }
        match datagram::decode(bytes) {
            Ok(Datagram::Retry { cookie, .. }) => account.shown.push(cookie),
            Ok(Datagram::Welcome { link, .. }) => account.shown.push(link),
            Ok(Datagram::Data(data)) => {
                for frame in frames_of(&data) {
                    if let Frame::PathChallenge(nonce) = frame {
                        account.shown.push(nonce);
                    }
                }
            }
            Ok(_) => {}
            Err(error) => return Err(broken("honest peers", format!("a server sends {error}"))),
        }
        Ok(())
    }

    /// A call under maybe is put on the wire once.
    pub(super) fn leaves_client(&mut self, now: Time, bytes: &[u8]) -> Step {
        self.sent.push(now);
        let data = match datagram::decode(bytes) {
            Ok(Datagram::Data(data)) => data,
            Ok(_) => return Ok(()),
            Err(error) => return Err(broken("honest peers", format!("a client sends {error}"))),
        };
        for frame in frames_of(&data) {
            let Frame::Call(call) = frame else { continue };
            let Some(task) = Task::from_arguments(call.method, call.arguments) else {
                return Err(broken("I3", "a call leaves with other arguments"));
            };
            let copies = self.copies.entry(task.call).or_default();
            *copies += 1;
            if *copies > 1 && task.semantics == crate::semantics::Semantics::Maybe {
                let what = format!("call {} under maybe is sent for the {copies}. time", task.call);
                return Err(broken("I1", what));
            }
        }
        Ok(())
    }

    /// A server opens a link: not for more clients than so many that have proved nothing.
    pub(super) fn opens(
        &mut self,
        server: usize,
        link: u64,
        to: SocketAddr,
        validated: bool,
        most: usize,
    ) -> Step {
        let proved = self.accounts.get(&(server, to)).is_some_and(|account| account.validated);
        if validated && !proved {
            return Err(broken("I12", format!("{to} is taken for proved, and is not")));
        }
        if !validated {
            self.unproved.insert((server, link), to);
        }
        let count = self.unproved.range((server, 0)..=(server, u64::MAX)).count();
        if count > most {
            return Err(broken("I9", format!("{count} links for clients that proved nothing")));
        }
        Ok(())
    }

    /// A link is over.
    pub(super) fn closes(&mut self, server: usize, link: u64) {
        self.unproved.remove(&(server, link));
    }

    /// A method starts again: as often as its call was put on the wire, and no more.
    pub(super) fn starts(&self, task: &Task, run: u32) -> Step {
        let call = task.call;
        match self.copies.get(&call) {
            // A larger one may also have left in pieces.
            Some(&copies) if run > copies && task.arguments < 400 => Err(broken(
                "I5",
                format!("call {call} was sent {copies} times and runs {run} times"),
            )),
            _ => Ok(()),
        }
    }

    /// The server's process ended, and with it what it had shown.
    pub(super) fn forget(&mut self, server: usize) {
        self.accounts.retain(|&(of, _), _| of != server);
        self.unproved.retain(|&(of, _), _| of != server);
    }

    /// How many datagrams left since then.
    pub(in super::super) fn sent_since(&self, since: Time) -> usize {
        self.sent.len() - self.sent.partition_point(|&at| at < since)
    }
}

impl Account {
    fn comes_back(&mut self, what: u64) {
        self.validated |= self.shown.contains(&what);
    }
}
