//! HELLO and WELCOME on the server's side: which session a connection belongs to.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::driver::input::Input;
use crate::driver::lock;
use crate::driver::references::Partner;
use crate::driver::server::{Expired, Server};
use crate::driver::session::{Cell, Inside, LinkOut};
use crate::id::SessionId;
use crate::protocol::client::Violation;
use crate::protocol::packet;
use crate::protocol::server::ServerSession;
use crate::transport::Stream;
use crate::wire::frame::{CloseCode, Frame, FrameError, Hello, Welcome, decode};
use crate::wire::send_buffer::SendBuffer;

/// Why there is no handshake.
pub(super) enum Refusal {
    Io(io::Error),
    Close(CloseCode, String),
}

/// Reads until HELLO is complete.
pub(super) fn poll_hello(
    server: &Server,
    task: u64,
    stream: &mut Stream,
    input: &mut Input,
    cx: &mut Context<'_>,
) -> Poll<Result<Hello, Refusal>> {
    loop {
        let bad = |error: FrameError| {
            let code = match error {
                FrameError::Version(_) => CloseCode::Version,
                _ => CloseCode::Violation,
            };
            Refusal::Close(code, error.to_string())
        };
        if let Some((start, end)) = input.peek(0).map_err(bad)? {
            let hello = match decode(input.bytes(start, end)).map_err(bad)? {
                Frame::Hello(hello) => hello,
                _ => return Poll::Ready(Err(bad(FrameError::Magic))),
            };
            input.consume(end);
            return Poll::Ready(Ok(hello));
        }
        if server.is_closing(task, cx.waker()) {
            return Poll::Ready(Err(Refusal::Io(io::ErrorKind::ConnectionAborted.into())));
        }
        match ready!(input.poll_fill(cx, stream, server.clock.now())) {
            Ok(()) => {}
            Err(error) => return Poll::Ready(Err(Refusal::Io(error))),
        }
    }
}

/// What a link's frames travel in. A session stays with the kind that it began on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::driver) enum Kind {
    Stream,
    Datagrams,
}

/// Makes or resumes the session and attaches this link to it. `begin` makes the link's send buffer, and whatever else
/// the caller keeps for the link, and sees to it that WELCOME goes first.
pub(in crate::driver) fn welcome<T>(
    server: &Arc<Server>,
    hello: &Hello,
    kind: Kind,
    io: Waker,
    begin: impl FnOnce(Welcome) -> (SendBuffer, T),
) -> Result<(Arc<Cell>, T), (CloseCode, &'static str)> {
    if server.is_draining() {
        return Err((CloseCode::Busy, "the server is shutting down"));
    }
    let limits = &server.limits;
    let fresh = SessionId(server.entropy.next());
    // Dropped last, when nothing is locked.
    let mut _relieved = Expired::default();
    let mut sessions = lock(&server.sessions);
    let datagrams = kind == Kind::Datagrams;
    let belongs = |cell: &Arc<Cell>| cell.client == hello.client && cell.datagrams == datagrams;
    let make = |id| {
        let (limits, budget) = (limits.clone(), server.budget.clone());
        let session = ServerSession::new(id, hello.client, limits, budget);
        let session = if datagrams { session.over_datagrams() } else { session };
        Arc::new(Cell::new(session, server.clock, server.weak_home()))
    };
    if sessions.len() >= limits.sessions {
        _relieved = server.relieve(&mut sessions);
    }
    let welcomed = sessions
        .welcome(hello, fresh, limits, belongs, make)
        .map_err(|_| (CloseCode::Busy, "the server has too many sessions"))?;
    let cell = welcomed.session;
    let mut state = cell.lock();
    if welcomed.resumed && hello.link <= state.session.link() {
        return Err((CloseCode::Replaced, "a newer link of the session took over"));
    }
    let finished = match &hello.resume {
        Some(resume) if welcomed.resumed => Some((resume.floor, &resume.ranges)),
        _ => None,
    };
    let known = state
        .session
        .attach(hello.link, hello.max_message, finished)
        .map_err(|Violation(what)| (CloseCode::Violation, what))?;
    #[cfg(farcall_canary)]
    if cfg_canary!("replies_that_are_sent_again_count_again") {
        state.count_again();
    }
    let mut greeting = sessions.greeting(hello, welcomed.id, welcomed.resumed, known, limits);
    drop(sessions);
    if datagrams {
        greeting.max_message = packet::max_message(limits) as u64;
    }
    let (mut out, kept) = begin(greeting);
    state.session.flush(&mut out);
    let old = state.link.replace(LinkOut {
        number: hello.link,
        out,
        io,
        scheduled: true,
        back: Inside::default(),
    });
    drop(state);
    if let Some(old) = old {
        old.io.wake();
    }
    if let Some(Partner::Peer(peer)) = cell.partner() {
        peer.attached();
    }
    Ok((cell, kept))
}
