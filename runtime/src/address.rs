//! Addresses as URLs: `tcp://host:port/path/of/object`, `mem://name/path/of/object`, `udp://…`.
//!
//! Values only: nothing here resolves a host name or opens a socket. Nodes parse what the user
//! wrote, transports take the [`Address`], the registry the object's name.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Where an object is: the address of a node and the name under which the object is bound there.
///
/// ```
/// use farcall::Url;
///
/// let url: Url = "tcp://[::1]:7400/bank/alice".parse()?;
/// assert_eq!(url.object(), "bank/alice");
/// assert_eq!(url.address().to_string(), "tcp://[::1]:7400");
/// assert_eq!(url.to_string(), "tcp://[::1]:7400/bank/alice");
/// # Ok::<(), farcall::AddressError>(())
/// ```
///
/// The name is everything behind the slash, as it is written: `?`, `#` and further slashes belong
/// to it. Percent-encoding is not decoded, and refused so that nobody waits for it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    address: Address,
    object: Arc<str>,
}

/// Where a node listens, or where it is reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP port: `tcp://host:port`.
    Tcp(HostPort),
    /// A UDP port: `udp://host:port`.
    Udp(HostPort),
    /// A name in this process: `mem://name`.
    Memory(Arc<str>),
}

/// A host and a port of it; port 0 asks for any free one where a node listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// A host by number or by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// By number.
    Ip(IpAddr),
    /// By name, in lower case; whoever connects resolves it.
    Name(Arc<str>),
}

/// What is accepted where an address is asked for: a [`Url`] or its text.
pub trait IntoUrl {
    /// The parsed address.
    ///
    /// # Errors
    /// [`AddressError`] if the text is not one; it says what to write.
    fn into_url(self) -> Result<Url, AddressError>;
}

/// Why a text is not an address that can be used. Each says what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no `scheme://` at the front.
    NoScheme {
        /// What was written.
        text: Box<str>,
    },
    /// The scheme is none of those that are known.
    UnknownScheme {
        /// The scheme.
        scheme: Box<str>,
    },
    /// The part between `://` and the next slash is not a host and a port, or not a name for
    /// `mem://`.
    BadHost {
        /// What was written there.
        host: Box<str>,
        /// What is wrong with it, and what to write.
        reason: &'static str,
    },
    /// The object's name cannot be one.
    BadName(NameError),
    /// The address names no object, where one is needed.
    NoObject {
        /// The address.
        address: Box<str>,
    },
}

/// Why a text cannot be an object's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum NameError {
    /// It has no characters.
    Empty,
    /// It has more bytes than the 255 that are allowed.
    TooLong {
        /// How many it has.
        bytes: u64,
    },
    /// It contains a control character, such as a line break.
    ControlCharacter,
    /// It contains a percent sign and two hexadecimal digits, which farcall does not decode.
    PercentEncoded,
}

impl Url {
    /// The object of that name at that address.
    ///
    /// # Errors
    /// [`AddressError::BadName`] if no object can have this name.
    pub fn new(address: Address, object: &str) -> Result<Url, AddressError> {
        check_name(object).map_err(AddressError::BadName)?;
        Ok(Url { address, object: object.into() })
    }

    /// The address of the node.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name of the object; empty if the URL is that of a node alone, as `tcp://127.0.0.1:0`.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The name of the object, shared; an error if there is none.
    pub(crate) fn require_object(&self) -> Result<Arc<str>, AddressError> {
        if self.object.is_empty() {
            return Err(AddressError::NoObject { address: self.address.to_string().into() });
        }
        Ok(Arc::clone(&self.object))
    }
}

impl Address {
    /// The word before `://`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Address::Tcp(_) => "tcp",
            Address::Udp(_) => "udp",
            Address::Memory(_) => "mem",
        }
    }
}

impl FromStr for Url {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Url, AddressError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| AddressError::NoScheme { text: shortened(text) })?;
        let (authority, object) = rest.split_once('/').unwrap_or((rest, ""));
        let address = match scheme.to_ascii_lowercase().as_str() {
            "tcp" => Address::Tcp(parse_host_port(authority)?),
            "udp" => Address::Udp(parse_host_port(authority)?),
            "mem" => Address::Memory(parse_host_name(authority)?),
            _ => return Err(AddressError::UnknownScheme { scheme: shortened(scheme) }),
        };
        if !object.is_empty() {
            check_name(object).map_err(AddressError::BadName)?;
        }
        Ok(Url { address, object: object.into() })
    }
}

impl From<Address> for Url {
    fn from(address: Address) -> Url {
        Url { address, object: "".into() }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl IntoUrl for Url {
    fn into_url(self) -> Result<Url, AddressError> {
        Ok(self)
    }
}

impl IntoUrl for &Url {
    fn into_url(self) -> Result<Url, AddressError> {
        Ok(self.clone())
    }
}

impl IntoUrl for &str {
    fn into_url(self) -> Result<Url, AddressError> {
        self.parse()
    }
}

impl IntoUrl for String {
    fn into_url(self) -> Result<Url, AddressError> {
        self.parse()
    }
}

impl IntoUrl for &String {
    fn into_url(self) -> Result<Url, AddressError> {
        self.parse()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.object.is_empty() { Ok(()) } else { write!(f, "/{}", self.object) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(place) | Address::Udp(place) => write!(f, "{}://{place}", self.scheme()),
            Address::Memory(name) => write!(f, "{}://{name}", self.scheme()),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V4(number)) => number.fmt(f),
            Host::Ip(IpAddr::V6(number)) => write!(f, "[{number}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

macro_rules! debug_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}

debug_as_text!(Url, Address, HostPort, Host);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::NoScheme { text } => {
                write!(f, "`{text}` has no scheme; write `tcp://{text}` or `mem://{text}`")
            }
            AddressError::UnknownScheme { scheme } => {
                write!(f, "unknown scheme `{scheme}`; expected `tcp`, `mem` or `udp`")
            }
            AddressError::BadHost { host, reason } => write!(f, "`{host}`: {reason}"),
            AddressError::BadName(error) => error.fmt(f),
            AddressError::NoObject { address } => {
                write!(f, "`{address}` names no object; write `{address}/name`")
            }
        }
    }
}

impl Error for AddressError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => {
                f.write_str("the object's name is empty; write at least one letter")
            }
            NameError::TooLong { bytes } => {
                write!(f, "the object's name has {bytes} bytes; write at most {MAX_NAME_BYTES}")
            }
            NameError::ControlCharacter => f.write_str(
                "the object's name contains a control character; write letters, digits and signs",
            ),
            NameError::PercentEncoded => f.write_str(
                "the object's name contains percent-encoding, which is not decoded; \
                 write the characters themselves",
            ),
        }
    }
}

impl Error for NameError {}

/// Longest name of an object, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Whether an object can have this name.
pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { bytes: name.len() as u64 });
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    let encoded =
        |window: &[u8]| window[0] == b'%' && window[1..].iter().all(u8::is_ascii_hexdigit);
    if name.as_bytes().windows(3).any(encoded) {
        return Err(NameError::PercentEncoded);
    }
    Ok(())
}

fn parse_host_port(authority: &str) -> Result<HostPort, AddressError> {
    let bad = |reason| Err(AddressError::BadHost { host: shortened(authority), reason });
    if authority.contains('@') {
        return bad("user names are not part of an address; write `host:port`");
    }
    if let Some(bracketed) = authority.strip_prefix('[') {
        let Some((number, port)) = bracketed.split_once(']') else {
            return bad("the bracket is not closed; write `[::1]:7400`");
        };
        let Ok(number) = number.parse::<Ipv6Addr>() else {
            return bad("only an IPv6 number stands in brackets; write `[::1]:7400`");
        };
        let Some(port) = port.strip_prefix(':').and_then(parse_port) else {
            return bad(NO_PORT);
        };
        return Ok(HostPort { host: Host::Ip(IpAddr::V6(number)), port });
    }
    if authority.parse::<Ipv6Addr>().is_ok() || authority.matches(':').count() > 1 {
        return bad("an IPv6 number stands in brackets; write `[::1]:7400`");
    }
    let Some((host, port)) = authority.split_once(':') else { return bad(NO_PORT) };
    let Some(port) = parse_port(port) else { return bad(NO_PORT) };
    if let Ok(number) = host.parse::<IpAddr>() {
        return Ok(HostPort { host: Host::Ip(number), port });
    }
    Ok(HostPort { host: Host::Name(parse_host_name(host)?), port })
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` alone would take `+80`.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn parse_host_name(name: &str) -> Result<Arc<str>, AddressError> {
    let bad = |reason| Err(AddressError::BadHost { host: shortened(name), reason });
    if name.is_empty() {
        return bad("the host is missing; write `127.0.0.1:7400`, or a name for `mem://`");
    }
    if name.len() > MAX_NAME_BYTES {
        return bad("a host name has at most 255 bytes");
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !name.bytes().all(allowed) {
        return bad("a host name consists of ASCII letters, digits, `-`, `.` and `_`");
    }
    Ok(name.to_ascii_lowercase().into())
}

/// As much of a text as an error repeats.
fn shortened(text: &str) -> Box<str> {
    text.chars().take(MAX_REPEATED_CHARACTERS).collect::<String>().into()
}

/// Most characters of the user's text that an error repeats.
const MAX_REPEATED_CHARACTERS: usize = 80;

const NO_PORT: &str = "the port is missing or not a number up to 65535; write `host:7400`";

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        text.parse::<Url>().expect("parses").to_string()
    }

    fn failure(text: &str) -> String {
        text.parse::<Url>().expect_err("does not parse").to_string()
    }

    #[test]
    fn an_address_prints_as_it_is_written() {
        for text in [
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:7400/alice",
            "tcp://[::1]:7400/bank/alice",
            "tcp://bank.example.org:80/a b?c#d%/",
            "udp://239.255.42.1:7400/desk",
            "mem://bank/path/of/object",
            "mem://bank",
            "tcp://localhost:1//leading",
        ] {
            assert_eq!(round_trip(text), text);
        }
    }

    #[test]
    fn spelling_of_scheme_and_host_does_not_matter() {
        assert_eq!(round_trip("TCP://LocalHost:1/Alice"), "tcp://localhost:1/Alice");
        assert_eq!(round_trip("tcp://[0:0::1]:1"), "tcp://[::1]:1");
        assert_eq!(round_trip("tcp://localhost:1/"), "tcp://localhost:1");
    }

    #[test]
    fn the_name_is_all_behind_the_first_slash() {
        let url: Url = "tcp://[::1]:7400/bank/alice".parse().expect("parses");
        assert_eq!(url.object(), "bank/alice");
        assert_eq!(url.address().to_string(), "tcp://[::1]:7400");
        assert_eq!(Url::new(url.address().clone(), "bank/alice"), Ok(url));
    }

    #[test]
    fn errors_say_what_to_write() {
        let cases = [
            ("127.0.0.1:7400", "`127.0.0.1:7400` has no scheme; write `tcp://127.0.0.1:7400`"),
            ("http://a:1", "unknown scheme `http`; expected `tcp`, `mem` or `udp`"),
            ("tcp://localhost", "write `host:7400`"),
            ("tcp://localhost:", "write `host:7400`"),
            ("tcp://localhost:65536", "up to 65535"),
            ("tcp://localhost:+1", "not a number"),
            ("tcp://[::1]", "write `host:7400`"),
            ("tcp://[::1:7400", "not closed"),
            ("tcp://[localhost]:1", "only an IPv6 number"),
            ("tcp://::1:7400", "in brackets; write `[::1]:7400`"),
            ("tcp://:7400", "the host is missing"),
            ("tcp://me@host:1", "user names"),
            ("tcp://h\u{f6}st:1", "ASCII letters"),
            ("mem:///alice", "the host is missing"),
            ("mem://bank:1/alice", "ASCII letters"),
            ("tcp://h:1/a%20b", "write the characters themselves"),
            ("tcp://h:1/a\nb", "control character"),
        ];
        for (text, words) in cases {
            let failure = failure(text);
            assert!(failure.contains(words), "{text}: {failure}");
        }
    }

    #[test]
    fn a_name_has_255_bytes_at_most() {
        assert_eq!(check_name(&"a".repeat(255)), Ok(()));
        assert_eq!(check_name(&"a".repeat(256)), Err(NameError::TooLong { bytes: 256 }));
        assert_eq!(check_name(""), Err(NameError::Empty));
    }

    #[test]
    fn a_long_text_is_not_repeated_whole() {
        assert!(failure(&"x".repeat(100_000)).len() < 400);
    }

    #[test]
    fn a_url_without_an_object_cannot_be_looked_up() {
        let url: Url = "mem://bank".parse().expect("parses");
        let error = url.require_object().expect_err("no object").to_string();
        assert_eq!(error, "`mem://bank` names no object; write `mem://bank/name`");
    }
}
