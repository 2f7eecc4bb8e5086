//! Holds `docs/protocol.md` against the code: the example conversations byte by byte, and the
//! tables.
//!
//! The conversations are what the machines say to each other, not frames that were put together for
//! the document.

mod datagrams;

use std::fs;
use std::sync::Arc;

use super::frame::{
    BoundResult, CloseCode, Kind, ReplyStatus, Verdict, decode, frame_length, put_bound, put_close,
};
use super::payload::{ELEMENT_BUDGET_BASE, ELEMENT_BUDGET_PER_BYTE, MAX_DEPTH, encode};
use super::send_buffer::{Batch, SendBuffer};
use super::varint;
use crate::error::FailureCode;
use crate::id::{Boot, Handle, NodeId, SessionId};
use crate::limits::Limits;
use crate::protocol::client::{Client, ClientConfig, Key, NewCall};
use crate::protocol::server::{Admission, ServerSession, Sessions, Target};
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::frame::{Call, Frame, Hello};

/// The interface of the document's example.
mod account {
    use farcall_macros::remote;

    /// A bank account.
    #[remote(crate = crate)]
    pub(super) trait Account {
        /// Adds `cents` and returns the new balance.
        async fn deposit(&self, cents: u64) -> Result<u64, Frozen>;

        /// The balance in cents.
        #[remote(semantics = "at_least_once")]
        async fn balance(&self) -> u64;
    }

    /// No money moves.
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct Frozen;
}

#[test]
fn the_conversation_in_the_document_is_the_one_that_the_code_has() {
    same(&written_conversation(&document(), "conversation"), &conversation());
}

/// Compares what the document has with what was said.
fn same(written: &[(String, Vec<u8>)], spoken: &[(String, Vec<u8>)]) {
    let names = |frames: &[(String, Vec<u8>)]| -> Vec<String> {
        frames.iter().map(|(title, _)| title.clone()).collect()
    };
    assert_eq!(names(written), names(spoken));
    for ((title, written), (_, spoken)) in written.iter().zip(spoken) {
        assert_eq!(hexadecimal(written), hexadecimal(spoken), "{title}");
    }
}

#[test]
fn method_ids_in_the_document_are_those_of_the_macro() {
    let descriptor = <dyn account::Account as crate::dispatch::Interface>::DESCRIPTOR;
    let texts = ["deposit(u64)->Result<u64,Frozen>", "balance()->Result<u64,Infallible>"];
    let document = document();
    for (method, text) in descriptor.methods.iter().zip(texts) {
        assert_eq!(fnv1a(text.as_bytes()), method.id.0, "{text}");
        let row = format!("| `{text}` | `{:08x}` |", method.id.0);
        assert!(document.contains(&row), "{row}");
    }
}

#[test]
fn kinds_in_the_document_are_those_of_the_code() {
    let kinds = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Close,
        Kind::GoAway,
        Kind::Ping,
        Kind::Pong,
        Kind::Call,
        Kind::Reply,
        Kind::Fragment,
        Kind::CallAck,
        Kind::Resolve,
        Kind::Executing,
        Kind::Stale,
        Kind::NeedAck,
        Kind::Lookup,
        Kind::Bound,
        Kind::Ack,
        Kind::Piece,
        Kind::PathChallenge,
        Kind::PathResponse,
        Kind::Back,
        Kind::Pass,
    ];
    let rows = table(&document(), "| kind | name |");
    assert_eq!(rows.len(), kinds.len());
    for (row, kind) in rows.iter().zip(kinds) {
        let name = row[1].replace('_', "").to_lowercase();
        assert_eq!((&*row[0], name), (&*(kind as u8).to_string(), spelled(kind)));
    }
}

#[test]
fn failure_codes_in_the_document_are_those_of_the_code() {
    let rows = table(&document(), "| code | name |");
    let known: Vec<u8> = (0..=255).filter(|&byte| FailureCode::from_wire(byte).is_some()).collect();
    assert_eq!(rows.len(), known.len());
    for (row, byte) in rows.iter().zip(known) {
        let code = FailureCode::from_wire(byte).expect("it is known");
        let expected = [byte.to_string(), format!("{code:?}"), format!("{:?}", code.execution())];
        assert_eq!(row[..3], expected);
    }
}

#[test]
fn limits_in_the_document_are_those_of_the_code() {
    let rows = table(&document(), "| limit | default |");
    let written: Vec<String> =
        rows.iter().map(|row| format!("{}: {}", plain(&row[0]), plain(&row[1]))).collect();
    let limits = format!("{:?}", Limits::default());
    let limits = limits.trim_start_matches("Limits { ").trim_end_matches(" }");
    // What is there for a bench is nobody's limit.
    let limits = limits.trim_end_matches(", go_back_n: false");
    assert_eq!(written.join(", "), limits);
}

#[test]
fn constants_in_the_document_are_those_of_the_code() {
    let document = document();
    let rows = table(&document, "| constant | value |");
    let value = |name: &str| {
        let row = rows.iter().find(|row| plain(&row[0]) == name).expect("the constant has a row");
        plain(&row[1]).replace(',', "").parse::<usize>().expect("a number")
    };
    assert_eq!(value("largest frame"), super::frame::MAX_FRAME);
    assert_eq!(value("fragment"), super::frame::FRAGMENT);
    assert_eq!(value("longest name"), super::frame::MAX_NAME);
    assert_eq!(value("most methods"), super::frame::MAX_METHODS);
    assert_eq!(value("deadline unit"), super::frame::DEADLINE_UNIT_MS as usize);
    assert_eq!(value("payload depth"), MAX_DEPTH);
    assert_eq!(value("elements per byte"), ELEMENT_BUDGET_PER_BYTE);
    assert_eq!(value("elements free"), ELEMENT_BUDGET_BASE);
}

#[test]
fn varints_in_the_document_are_those_of_the_code() {
    let rows = table(&document(), "| value | bytes |");
    assert!(rows.len() > 5);
    for row in rows {
        let value: u64 = row[0].replace(',', "").parse().expect("a number");
        let (bytes, length) = varint::encode(value);
        assert_eq!(plain(&row[1]), hexadecimal(&bytes[..length]), "{value}");
    }
}

/// What client and server say, frame by frame.
fn conversation() -> Vec<(String, Vec<u8>)> {
    let limits = Arc::new(Limits::default());
    let mut client = new_client("tcp://127.0.0.1:7400", &limits);
    let (mut up, mut down) = (SendBuffer::default(), SendBuffer::default());
    let mut said = Said::default();
    let now = Time::ZERO;

    client.connected(now, NONCE, &mut up);
    let frames = said.take("client -> server", &mut up);
    let Ok(Frame::Hello(hello)) = decode(&frames[0]) else { panic!("no HELLO") };
    let (mut session, welcome) = welcomed(&hello, &limits);
    said.answer(&mut client, &mut down, &mut up, |into| super::frame::put_welcome(&welcome, into));

    let descriptor = <dyn account::Account as crate::dispatch::Interface>::DESCRIPTOR;
    let handle = client.bind(&"alice".into(), descriptor, &mut up).expect("there is room");
    said.take("client -> server", &mut up);
    let verdicts = vec![Verdict::Callable; 2];
    said.answer(&mut client, &mut down, &mut up, |into| {
        put_bound(handle, &BoundResult::Object { verdicts, methods: "" }, into);
    });

    for (cents, status, result) in
        [(500_u64, ReplyStatus::Ok, Some(500_u64)), (1, ReplyStatus::MethodError, None)]
    {
        let mut body = Vec::new();
        match result {
            Some(balance) => encode(&balance, &mut body),
            None => encode(&account::Frozen, &mut body),
        }
        .expect("it can be encoded");
        let key = deposit(&mut client, handle, cents, &mut up);
        let frames = said.take("client -> server", &mut up);
        let Ok(Frame::Call(call)) = decode(&frames[0]) else { panic!("no CALL") };
        run(&mut session, &call, status, &mut body, &mut down);
        said.answer(&mut client, &mut down, &mut up, |_| {});
        assert!(client.take(key, &mut Vec::new()).is_some());
    }

    client.handle_timeout(now + limits.ack_delay, &mut up);
    put_close(CloseCode::Done, "", up.small());
    said.take("client -> server", &mut up);
    said.frames
}

const NONCE: u64 = 0x1122_3344_5566_7788;

fn new_client(peer: &str, limits: &Arc<Limits>) -> Client<()> {
    let node = NodeId(uuid::Uuid::from_u128(0x0c11_e47a_0000_4000_8000_0000_0000_0001));
    let datagrams = peer.starts_with("udp");
    Client::new(ClientConfig { node, peer: peer.into(), limits: limits.clone(), datagrams })
}

/// The client calls `deposit(cents)`.
fn deposit(client: &mut Client<()>, handle: Handle, cents: u64, up: &mut SendBuffer) -> Key {
    let mut arguments = Vec::new();
    encode(&(cents,), &mut arguments).expect("it can be encoded");
    let call = NewCall {
        handle,
        method: 0,
        semantics: Semantics::AtMostOnce,
        oneway: false,
        passes: false,
        timeout: Limits::default().default_timeout,
        arguments: &arguments,
        large: None,
    };
    client.start(Some(Time::ZERO), &call, up).expect("there is room")
}

/// The server runs `call`, which ends so.
fn run(
    session: &mut ServerSession,
    call: &Call<'_>,
    status: ReplyStatus,
    body: &mut Vec<u8>,
    down: &mut SendBuffer,
) {
    let target =
        Target::Method { semantics: Semantics::AtMostOnce, oneway: false, max_reply: None };
    assert_eq!(session.admit(Time::ZERO, call, target, down), Ok(Admission::Run));
    session.complete(Time::ZERO, call.seq, status, body, Some(down));
}

fn welcomed(hello: &Hello, limits: &Arc<Limits>) -> (ServerSession, super::frame::Welcome) {
    let server = NodeId(uuid::Uuid::from_u128(0x5e44_e400_0000_4000_8000_0000_0000_0002));
    let mut sessions = Sessions::<()>::new(server, Boot(0xb007_0000_0000_0001));
    let id = SessionId(0x5e55_1010_0000_0001);
    let welcomed =
        sessions.welcome(hello, id, limits, |()| true, |_| ()).expect("there are no sessions yet");
    let mut session = ServerSession::new(id, hello.client, limits.clone(), Arc::default());
    let known = session.attach(hello.link, hello.max_message, None).expect("nothing is known");
    (session, sessions.greeting(hello, welcomed.id, welcomed.resumed, known, limits))
}

/// The frames so far, each with who says it and its name.
#[derive(Default)]
struct Said {
    frames: Vec<(String, Vec<u8>)>,
}

impl Said {
    /// Notes all that is to be sent; gives the frames back without their lengths.
    fn take(&mut self, way: &str, out: &mut SendBuffer) -> Vec<Vec<u8>> {
        let mut rest = written(out);
        let mut bodies = Vec::new();
        while let Some((length, used)) = frame_length(&rest).expect("frames") {
            let frame: Vec<u8> = rest.drain(..used + length).collect();
            let body = frame[used..].to_vec();
            self.frames.push((format!("{way} {}", name(&body)), frame));
            bodies.push(body);
        }
        bodies
    }

    /// What the server says, and the client hears.
    fn answer(
        &mut self,
        client: &mut Client<()>,
        down: &mut SendBuffer,
        up: &mut SendBuffer,
        put: impl FnOnce(&mut Vec<u8>),
    ) {
        put(down.small());
        for body in self.take("server -> client", down) {
            let frame = decode(&body).expect("a frame");
            client.handle(Time::ZERO, &frame, up).expect("no violation");
        }
    }
}

/// All frames that wait in a buffer.
fn written(out: &mut SendBuffer) -> Vec<u8> {
    let mut batch = Batch::default();
    out.fill(&mut batch);
    let bytes = batch.single().expect("nothing is large").to_vec();
    batch.advance(usize::MAX);
    bytes
}

/// What the document calls the frame with this body.
fn name(body: &[u8]) -> String {
    table(&document(), "| kind | name |")[usize::from(body[0] >> 3)][1].clone()
}

/// What is said in a conversation of the document: a line that names it, then bytes with words
/// behind them. `00 x 7` are seven zeros.
fn written_conversation(document: &str, name: &str) -> Vec<(String, Vec<u8>)> {
    let start = format!("```{name}\n");
    let block = document.split(&start).nth(1).expect("the document has the block");
    let block = block.split("```").next().unwrap_or_default();
    let mut frames: Vec<(String, Vec<u8>)> = Vec::new();
    for line in block.lines().filter(|line| !line.is_empty()) {
        let Some(bytes) = line.strip_prefix("  ") else {
            frames.push((line.to_owned(), Vec::new()));
            continue;
        };
        let bytes = bytes.split("  ").next().unwrap_or_default();
        let frame = &mut frames.last_mut().expect("a line names the frame").1;
        if let Some(zeros) = bytes.strip_prefix("00 x ") {
            frame.resize(frame.len() + zeros.parse::<usize>().expect("a number"), 0);
            continue;
        }
        let bytes = bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
        frame.extend(bytes);
    }
    frames
}

/// The cells of the table whose heading begins so.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = document.lines().skip_while(|line| !line.starts_with(heading));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    fs::read_to_string(path).expect("the document can be read")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

fn spelled(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
