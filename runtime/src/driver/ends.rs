//! Why a link ends: errors for what its peer did or said.

use std::io;
use std::task::Waker;

use crate::error::FailureCode;
use crate::protocol::assembly::Assembled;
use crate::protocol::client::Client;
use crate::time::Time;
use crate::wire::frame::{CloseCode, Frame, decode};

pub(super) fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

pub(super) fn closed(code: CloseCode, text: &str) -> io::Error {
    let kind = match code {
        CloseCode::Done | CloseCode::Replaced => io::ErrorKind::ConnectionReset,
        CloseCode::Version => io::ErrorKind::Unsupported,
        CloseCode::Violation => io::ErrorKind::InvalidData,
        CloseCode::Busy => io::ErrorKind::ConnectionRefused,
    };
    let text = FailureCode::printable(text.as_bytes());
    io::Error::new(kind, format!("the server closed the connection: {text}"))
}

/// Takes the reply that a piece made whole, if it did.
pub(super) fn take_assembled(
    assembled: Assembled,
    now: Time,
    client: &mut Client<Waker>,
) -> io::Result<()> {
    match assembled {
        Assembled::Unfinished => Ok(()),
        Assembled::Whole(message) => match decode(&message) {
            Ok(Frame::Reply(reply)) => {
                let body = message.slice_ref(reply.body);
                let handled = client.handle_large(now, &reply, body);
                handled.map_err(|violation| invalid(violation.0))
            }
            _ => Err(invalid("fragments that make no reply")),
        },
        Assembled::Refused(_) => Err(invalid("a reply over the limit")),
        Assembled::Violation(what) => Err(invalid(what)),
    }
}
