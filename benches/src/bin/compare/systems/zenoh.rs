//! zenoh: a peer that answers queries, another that asks, over TCP, without scouting.
//!
//! Its threads are its own, shared by all of a process, and run where the first session was opened.

use bytes::Bytes;
use tokio::time::{Duration, sleep};
use zenoh::bytes::ZBytes;
use zenoh::query::Query;
use zenoh::{Config, Session, Wait as _};

use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

const ADD: &str = "calculator/add";
const ECHO: &str = "calculator/echo";

/// How often is looked whether the other side's queries are known, and how many times.
const PAUSE: Duration = Duration::from_millis(10);
const LOOKS: usize = 500;

pub(crate) struct Zenoh;

async fn query(session: &Session, key: &str, payload: impl Into<ZBytes>) -> Option<ZBytes> {
    let replies = session.get(key).payload(payload).await.expect("a session");
    let reply = replies.recv_async().await.ok()?;
    Some(reply.into_result().ok()?.payload().clone())
}

impl Caller for Session {
    async fn add(&self, a: u64, b: u64) -> u64 {
        let mut numbers = [0; 16];
        numbers[..8].copy_from_slice(&a.to_le_bytes());
        numbers[8..].copy_from_slice(&b.to_le_bytes());
        let sum = query(self, ADD, &numbers[..]).await.expect("answered");
        u64::from_le_bytes(sum.to_bytes()[..].try_into().expect("a number"))
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        query(self, ECHO, bytes.to_vec()).await.expect("answered").len()
    }
}

fn add(query: &Query) -> ZBytes {
    let numbers = query.payload().expect("two numbers").to_bytes();
    let [a, b] = [&numbers[..8], &numbers[8..]]
        .map(|number| u64::from_le_bytes(number.try_into().expect("a number")));
    ZBytes::from(&a.wrapping_add(b).to_le_bytes()[..])
}

fn echo(query: &Query) -> ZBytes {
    query.payload().expect("bytes").clone()
}

/// A session without scouting, with at most one address on either side.
async fn open(connect: Option<&str>, listen: Option<&str>) -> Session {
    let list = |address: Option<&str>| match address {
        Some(address) => format!(r#"["tcp/{address}"]"#),
        None => "[]".to_owned(),
    };
    let mut config = Config::default();
    for (key, value) in [
        ("mode", r#""peer""#),
        ("scouting/multicast/enabled", "false"),
        // Nobody is waited for who might be found.
        ("open/return_conditions/connect_scouted", "false"),
        ("connect/endpoints", &list(connect)),
        ("listen/endpoints", &list(listen)),
    ] {
        config.insert_json5(key, value).expect("a setting");
    }
    zenoh::open(config).await.expect("a session")
}

impl System for Zenoh {
    const NAME: &'static str = "zenoh";
    const THREADED: bool = true;
    type Client = Session;

    async fn serve() -> String {
        // It cannot tell which port it was given.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a port").to_string();
        let session = open(None, Some(&address)).await;
        for (key, answer) in [(ADD, add as fn(&Query) -> ZBytes), (ECHO, echo)] {
            let answers = session.declare_queryable(key).callback(move |query| {
                query.reply(key, answer(&query)).wait().expect("a session");
            });
            answers.background().await.expect("a session");
        }
        std::mem::forget(session);
        address
    }

    async fn connect(address: String) -> Session {
        let session = open(Some(&address), None).await;
        for _ in 0..LOOKS {
            if query(&session, ECHO, &[1][..]).await.is_some() {
                break;
            }
            sleep(PAUSE).await;
        }
        session
    }

    async fn run(clients: Vec<Session>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }

    /// Not thousands of sessions, and what its threads hold is not counted.
    fn takes(load: &Load) -> bool {
        load.connections <= 16
    }
}
