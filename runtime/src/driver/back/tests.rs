//! Streams inside links: in whatever order frames come, bytes are read in theirs.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{BUFFER, Channel, Pipe, WINDOW};
use crate::protocol::client::Violation;
use crate::wire::frame::{Back, Frame, decode, first_frame};
use crate::wire::send_buffer::{Batch, SendBuffer};

fn open() -> (Arc<Channel>, Pipe) {
    Channel::open(1, Some(Waker::noop().clone()))
}

/// The frames that leave now, without their lengths.
fn frames(channel: &Channel) -> Vec<Vec<u8>> {
    let (mut out, mut batch) = (SendBuffer::default(), Batch::default());
    channel.transmit(&mut out, 1 << 20);
    out.fill(&mut batch);
    let mut rest = batch.single().expect("small frames only");
    let mut frames = Vec::new();
    while let Some((frame, used)) = first_frame(rest) {
        frames.push(frame.to_vec());
        rest = &rest[used..];
    }
    frames
}

fn take(channel: &Channel, frame: &[u8]) -> Result<(), Violation> {
    let Ok(Frame::Back(back)) = decode(frame) else { panic!("not BACK") };
    channel.receive(&back)
}

async fn write(pipe: &mut Pipe, bytes: &[u8]) -> usize {
    poll_fn(|cx| Pin::new(&mut *pipe).poll_write(cx, bytes)).await.expect("it is open")
}

fn read(pipe: &mut Pipe, most: usize) -> Poll<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut buffer = ReadBuf::new(&mut bytes);
    let polled = Pin::new(pipe).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
    polled.map(|result| {
        result.expect("it is open");
        buffer.filled().to_vec()
    })
}

#[tokio::test]
async fn bytes_that_come_in_any_order_and_twice_are_read_in_theirs() {
    let ((from, mut writer), (to, mut reader)) = (open(), open());
    let mut sent = Vec::new();
    for part in [&b"one"[..], b"two", b"three"] {
        write(&mut writer, part).await;
        sent.extend(frames(&from));
    }
    assert_eq!(sent.len(), 3);
    for index in [2, 0, 2, 0, 1, 1] {
        take(&to, &sent[index]).expect("correct frames");
    }
    assert_eq!(read(&mut reader, 100), Poll::Ready(b"onetwothree".to_vec()));
    assert!(read(&mut reader, 100).is_pending());
}

#[tokio::test]
async fn no_more_is_sent_than_the_other_side_has_room_for() {
    let ((from, mut writer), (to, mut reader)) = (open(), open());
    let mut written = 0;
    for _ in 0..WINDOW as usize / BUFFER {
        written += write(&mut writer, &vec![7; BUFFER]).await;
        for frame in frames(&from) {
            take(&to, &frame).expect("within the window");
        }
    }
    assert_eq!(written as u64, WINDOW);
    write(&mut writer, b"beyond").await;
    assert!(frames(&from).is_empty(), "the window is full");
    while let Poll::Ready(bytes) = read(&mut reader, BUFFER) {
        written -= bytes.len();
    }
    assert_eq!(written, 0);
    for frame in frames(&to) {
        take(&from, &frame).expect("it tells what was read");
    }
    assert_eq!(frames(&from).len(), 1);
}

#[tokio::test]
async fn what_comes_beyond_the_window_ends_the_stream() {
    let (to, _reader) = open();
    let back = |offset, bytes| Back { stream: 1, offset, read: 0, end: false, bytes };
    assert!(to.receive(&back(WINDOW - 1, b"x")).is_ok());
    assert!(to.receive(&back(WINDOW, b"x")).is_err());
    assert!(to.receive(&back(u64::MAX, b"x")).is_err());
    // Pieces that overlap, so that they are more than the window holds.
    let long = vec![0; BUFFER];
    let ended = (1..100).find_map(|offset| to.receive(&back(offset, &long)).err());
    assert!(ended.is_some());
}

#[tokio::test]
async fn the_end_comes_behind_the_last_byte() {
    let ((from, mut writer), (to, mut reader)) = (open(), open());
    write(&mut writer, b"last").await;
    let first = frames(&from);
    drop(writer);
    let end = frames(&from);
    take(&to, &end[0]).expect("the end");
    assert!(read(&mut reader, 10).is_pending(), "bytes are missing");
    take(&to, &first[0]).expect("the bytes");
    assert_eq!(read(&mut reader, 10), Poll::Ready(b"last".to_vec()));
    assert_eq!(read(&mut reader, 10), Poll::Ready(Vec::new()));
}

#[tokio::test]
async fn frames_of_another_stream_are_nothing_to_this_one() {
    let (to, mut reader) = open();
    let back = Back { stream: 2, offset: 0, read: 0, end: false, bytes: b"x" };
    to.receive(&back).expect("it is of no account");
    assert!(read(&mut reader, 10).is_pending());
}
