//! Why a link ends: errors for what its peer did or said.

use std::io;

use crate::error::FailureCode;
use crate::wire::frame::CloseCode;

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
