//! The document's conversation in datagrams, and its table of them.
//!
//! The frames are what the machines say, as in the conversation on a stream. Which of them share a
//! datagram, and what is acknowledged with them, is the document's choice.

use std::sync::Arc;

use super::account::Account;
use super::*;
use crate::dispatch::Interface;
use crate::protocol::packet::cookie::Cookies;
use crate::wire::datagram::{
    DATA_OVERHEAD, HELLO_SIZE, SMALLEST_HELLO, Truncated, begin_data, decode as open, put_hello,
    put_refused, put_retry, put_unknown, put_welcome, seal,
};
use crate::wire::frame::{
    ACK_DELAY_UNIT_US, MAX_ACK_RANGES, PieceHead, put_ack, put_nonce, put_piece_abort,
    put_piece_head,
};

const LINK: u64 = 0x1155_0000_0000_0001;

#[test]
fn the_conversation_in_datagrams_is_the_one_that_the_code_has() {
    same(&written_conversation(&document(), "datagrams"), &conversation());
}

#[test]
fn first_bytes_in_the_document_are_those_of_the_code() {
    let rows = table(&document(), "| first | datagram |");
    let mut puts: Vec<Vec<u8>> = vec![Vec::new(); 6];
    put_hello(1200, None, &[0], HELLO_SIZE, &mut puts[0]);
    put_retry(1, 2, &mut puts[1]);
    put_welcome(1, 2, 3, 4, &[8], &mut puts[2]);
    put_refused(1, &[16], &mut puts[3]);
    put_unknown(1, &mut puts[4]);
    begin_data(1, Truncated(0), &mut puts[5]);
    seal(0, &mut puts[5]);
    assert_eq!(rows.len(), puts.len());
    for (row, bytes) in rows.iter().zip(puts) {
        let first = plain(&row[0]);
        let first = first.split(' ').next().expect("a byte");
        assert_eq!(first, hexadecimal(&bytes[..1]), "{}", row[1]);
        let datagram = format!("{:?}", open(&bytes).expect("a datagram"));
        assert!(datagram.to_uppercase().starts_with(&row[1]), "{datagram}");
    }
}

#[test]
fn constants_of_datagrams_in_the_document_are_those_of_the_code() {
    let document = document();
    let rows = table(&document, "| constant of datagrams | value |");
    let value = |name: &str| {
        let row = rows.iter().find(|row| plain(&row[0]) == name).expect("the constant has a row");
        plain(&row[1]).replace(',', "").parse::<usize>().expect("a number")
    };
    assert_eq!(value("filled HELLO"), HELLO_SIZE);
    assert_eq!(value("smallest HELLO"), SMALLEST_HELLO);
    assert_eq!(value("beside the frames"), DATA_OVERHEAD);
    assert_eq!(value("unit of delay"), ACK_DELAY_UNIT_US as usize);
    assert_eq!(value("ranges of ACK"), MAX_ACK_RANGES);
    assert_eq!(value("smallest piece"), crate::protocol::packet::pieces::SMALLEST_PIECE);
}

#[test]
fn the_sum_and_the_acknowledgement_that_the_document_spells_out_are_those_of_the_code() {
    let words: Vec<String> = document().split_whitespace().map(str::to_owned).collect();
    let document = words.join(" ");
    let sum = format!("of the text `123456789` it is `{:08x}`", crc32c::crc32c(b"123456789"));
    assert!(document.contains(&sum), "{sum}");
    let mut ack = Vec::new();
    put_ack(0, &[(6, 10), (0, 4)], &mut ack);
    let ack = format!("having come just now, it is `{}`", hexadecimal(&ack[2..]));
    assert!(document.contains(&ack), "{ack}");
}

#[test]
fn frames_of_datagrams_are_violations_on_a_stream() {
    let limits = Arc::new(Limits::default());
    let mut client = new_client("tcp://127.0.0.1:7400", &limits);
    let mut up = SendBuffer::default();
    client.connected(Time::ZERO, NONCE, &mut up);
    let hello = without_length(&written(&mut up));
    let Ok(Frame::Hello(hello)) = decode(&hello) else { panic!("no HELLO") };
    let (_, welcome) = welcomed(&hello, &limits);
    client.handle(Time::ZERO, &Frame::Welcome(welcome), &mut up).expect("no violation");
    let head = PieceHead { message: 0, seq: 1, offset: 0, total: 1, once: false };
    let mut frames = vec![Vec::new(); 5];
    put_ack(0, &[(0, 1)], &mut frames[0]);
    put_piece_head(&head, 1, &mut frames[1]);
    frames[1].push(0);
    put_piece_abort(0, 1, &mut frames[2]);
    put_nonce(Kind::PathChallenge, 1, &mut frames[3]);
    put_nonce(Kind::PathResponse, 1, &mut frames[4]);
    for frame in frames {
        let frame = without_length(&frame);
        let frame = decode(&frame).expect("a frame");
        assert!(client.handle(Time::ZERO, &frame, &mut up).is_err(), "{frame:?}");
    }
}

/// What client and server say, datagram by datagram.
fn conversation() -> Vec<(String, Vec<u8>)> {
    let limits = Arc::new(Limits { message: 1 << 20, ..Limits::default() });
    let mut client = new_client("udp://203.0.113.1:7400", &limits);
    let (mut up, mut down) = (SendBuffer::default(), SendBuffer::default());
    let mut said = Datagrams::default();
    let now = Time::ZERO;

    client.connected(now, NONCE, &mut up);
    let hello = without_length(&written(&mut up));
    said.add("client -> server HELLO", |into| put_hello(1200, None, &hello, HELLO_SIZE, into));
    let cookies = Cookies::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
    let cookie = cookies.make(now, "192.0.2.7:40001".parse().expect("an address"), NONCE);
    said.add("server -> client RETRY", |into| put_retry(NONCE, cookie, into));
    said.add("client -> server HELLO", |into| {
        put_hello(1200, Some(cookie), &hello, HELLO_SIZE, into);
    });
    let Ok(Frame::Hello(asked)) = decode(&hello) else { panic!("no HELLO") };
    let (mut session, welcome) = welcomed(&asked, &limits);
    super::super::frame::put_welcome(&welcome, down.small());
    let frame = without_length(&written(&mut down));
    said.add("server -> client WELCOME", |into| {
        put_welcome(NONCE, LINK, 1200, 10_000, &frame, into);
    });
    client.handle(now, &decode(&frame).expect("a frame"), &mut up).expect("no violation");

    let descriptor = <dyn Account as Interface>::DESCRIPTOR;
    let handle = client.bind(&"alice".into(), descriptor, &mut up).expect("there is room");
    let lookup = written(&mut up);
    put_nonce(Kind::Ping, 0, up.small());
    up.small().extend_from_slice(&lookup);
    said.up(0, None, &mut up);
    let verdicts = vec![Verdict::Callable; 2];
    put_bound(handle, &BoundResult::Object { verdicts, methods: "" }, down.small());
    said.down(0, (0, &[(0, 1)]), &mut down, &mut client, &mut up);

    let key = deposit(&mut client, handle, 500, &mut up);
    let frame = said.up(1, Some((0, &[(0, 1)])), &mut up);
    let Ok(Frame::Call(call)) = decode(&frame) else { panic!("no CALL") };
    let mut body = Vec::new();
    encode(&500_u64, &mut body).expect("it can be encoded");
    run(&mut session, &call, ReplyStatus::Ok, &mut body, &mut down);
    said.down(1, (0, &[(0, 2)]), &mut down, &mut client, &mut up);
    assert!(client.take(key, &mut Vec::new()).is_some());
    said.up(2, Some((5000, &[(0, 2)])), &mut up);

    put_close(CloseCode::Done, "", up.small());
    said.up(3, None, &mut up);
    said.datagrams
}

fn without_length(frame: &[u8]) -> Vec<u8> {
    let (length, used) = frame_length(frame).expect("a length").expect("all of it");
    assert_eq!(frame.len(), used + length);
    frame[used..].to_vec()
}

/// The delay in microseconds, and what is acknowledged.
type Acknowledged<'a> = (u64, &'a [(u64, u64)]);

/// The datagrams so far, each with who says it and its name.
#[derive(Default)]
struct Datagrams {
    datagrams: Vec<(String, Vec<u8>)>,
}

impl Datagrams {
    fn add(&mut self, title: &str, put: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        put(&mut bytes);
        open(&bytes).expect("a datagram");
        self.datagrams.push((title.to_owned(), bytes));
    }

    /// One from the client, with all that waits to be sent; gives the last frame back without its
    /// length.
    fn up(
        &mut self,
        number: u64,
        acked: Option<Acknowledged<'_>>,
        out: &mut SendBuffer,
    ) -> Vec<u8> {
        self.data("client -> server DATA", LINK, number, acked, out).pop().expect("a frame")
    }

    /// One from the server, of which the client hears all but the acknowledgement.
    fn down(
        &mut self,
        number: u64,
        acked: Acknowledged<'_>,
        out: &mut SendBuffer,
        client: &mut Client<()>,
        up: &mut SendBuffer,
    ) {
        let frames = self.data("server -> client DATA", NONCE, number, Some(acked), out);
        for frame in &frames[1..] {
            let frame = decode(frame).expect("a frame");
            client.handle(Time::ZERO, &frame, up).expect("no violation");
        }
    }

    fn data(
        &mut self,
        way: &str,
        id: u64,
        number: u64,
        acked: Option<Acknowledged<'_>>,
        out: &mut SendBuffer,
    ) -> Vec<Vec<u8>> {
        let mut content = Vec::new();
        if let Some((delay_us, ranges)) = acked {
            put_ack(delay_us, ranges, &mut content);
        }
        content.extend(written(out));
        let (mut frames, mut rest) = (Vec::new(), &content[..]);
        while let Some((length, used)) = frame_length(rest).expect("frames") {
            frames.push(rest[used..used + length].to_vec());
            rest = &rest[used + length..];
        }
        let names: Vec<String> = frames.iter().map(|frame| name(frame)).collect();
        self.add(&format!("{way}: {}", names.join(", ")), |into| {
            begin_data(id, Truncated::of(number), into);
            into.extend_from_slice(&content);
            seal(0, into);
        });
        frames
    }
}
