//! Cookies: how a server knows, without keeping anything, that a client receives at its address.
//!
//! A cookie is a keyed hash of address, nonce and time. Whoever sends it back from that address has received it there
//! not long ago. The key is drawn at the server's start and never leaves it.

// Addresses as values; the sockets are in `std`.
use core::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher24;

use crate::time::Time;

/// A cookie is taken in the period in which it was made, and in the next.
const PERIOD_NANOS: u64 = 10_000_000_000;

/// Makes and checks the cookies of one server.
#[derive(Clone)]
pub(crate) struct Cookies {
    hasher: SipHasher24,
}

impl Cookies {
    /// With a key drawn at random for this server.
    pub(crate) fn new(key: [u64; 2]) -> Cookies {
        Cookies { hasher: SipHasher24::new_with_keys(key[0], key[1]) }
    }

    /// The cookie for a HELLO with this nonce from this address.
    pub(crate) fn make(&self, now: Time, address: SocketAddr, nonce: u64) -> u64 {
        self.hash(period(now), address, nonce)
    }

    /// Whether `cookie` was made for this address and nonce, at least 10 seconds ago at most 20.
    pub(crate) fn check(&self, now: Time, address: SocketAddr, nonce: u64, cookie: u64) -> bool {
        let present = period(now);
        let previous = present.checked_sub(1);
        cookie == self.hash(present, address, nonce)
            || previous.is_some_and(|previous| cookie == self.hash(previous, address, nonce))
    }

    fn hash(&self, period: u64, address: SocketAddr, nonce: u64) -> u64 {
        // An IPv4 address has one form here, whether a socket shows it as such or mapped into IPv6.
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; 34];
        bytes[..16].copy_from_slice(&host.octets());
        bytes[16..18].copy_from_slice(&address.port().to_be_bytes());
        bytes[18..26].copy_from_slice(&nonce.to_be_bytes());
        bytes[26..].copy_from_slice(&period.to_be_bytes());
        self.hasher.hash(&bytes)
    }
}

fn period(now: Time) -> u64 {
    now.as_nanos() / PERIOD_NANOS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: f64) -> Time {
        Time::ZERO + Duration::from_secs_f64(seconds)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_cookie_is_good_for_its_address_port_nonce_and_server_alone() {
        let (cookies, here) = (Cookies::new([1, 2]), address("192.0.2.1:4000"));
        let cookie = cookies.make(at(3.0), here, 7);
        assert!(cookies.check(at(3.0), here, 7, cookie));
        assert!(!cookies.check(at(3.0), address("192.0.2.2:4000"), 7, cookie));
        assert!(!cookies.check(at(3.0), address("192.0.2.1:4001"), 7, cookie));
        assert!(!cookies.check(at(3.0), here, 8, cookie));
        assert!(!cookies.check(at(3.0), here, 7, cookie ^ 1));
        assert!(!Cookies::new([1, 3]).check(at(3.0), here, 7, cookie));
        assert!(!Cookies::new([2, 2]).check(at(3.0), here, 7, cookie));
    }

    #[test]
    fn a_cookie_lives_ten_to_twenty_seconds() {
        let (cookies, here) = (Cookies::new([1, 2]), address("[2001:db8::1]:4000"));
        for (made, last, first_too_late) in
            [(0.0, 19.9, 20.0), (9.9, 19.9, 20.0), (10.0, 29.9, 30.0)]
        {
            let cookie = cookies.make(at(made), here, 7);
            assert!(cookies.check(at(last), here, 7, cookie), "{made}");
            assert!(!cookies.check(at(first_too_late), here, 7, cookie), "{made}");
        }
        let later = cookies.make(at(10.0), here, 7);
        assert!(!cookies.check(at(9.9), here, 7, later), "not before it was made");
    }

    #[test]
    fn an_address_is_the_same_mapped_into_ipv6() {
        let cookies = Cookies::new([1, 2]);
        let cookie = cookies.make(at(0.0), address("192.0.2.1:4000"), 7);
        assert!(cookies.check(at(0.0), address("[::ffff:192.0.2.1]:4000"), 7, cookie));
    }
}
