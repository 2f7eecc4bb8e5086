//! Who is a neighbour: the subnets of this machine's interfaces, as they are now.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use if_addrs::{IfAddr, Interface};
use tokio::time::Instant;

use super::multicast::Reach;

/// Whom the members of a group listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Callers {
    /// Those with an address in a subnet of the interface, or of any interface if none was chosen, and this machine. What
    /// comes from others is dropped.
    #[default]
    Subnet,
    /// Everybody whose datagrams arrive: for groups that reach across routers, and for links without a subnet.
    Anyone,
}

/// The subnets of one interface, or of all.
pub(super) struct Neighbours {
    reach: Reach,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    subnets: Vec<Subnet>,
    /// When they were read.
    read: Option<Instant>,
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    of: IpAddr,
    bits: u8,
}

impl Neighbours {
    pub(super) fn of(reach: Reach) -> Neighbours {
        Neighbours { reach, known: Mutex::default() }
    }

    /// Whether an address is near. Interfaces may have got others: they are read again for a stranger, but not often.
    pub(super) fn have(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.have(address) {
            return true;
        }
        if known.read.is_some_and(|read| read.elapsed() < READ_AGAIN) {
            return false;
        }
        let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
            tracing::warn!(%error, "the interfaces could not be read: nobody is near");
            Vec::new()
        });
        *known = Known { subnets: subnets(&interfaces, self.reach), read: Some(Instant::now()) };
        known.have(address)
    }
}

impl Known {
    fn have(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.has(address))
    }
}

impl Subnet {
    fn has(self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.of, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let differ = ours ^ theirs;
        differ.checked_shr(u32::from(width - self.bits.min(width))).unwrap_or(0) == 0
    }
}

/// What is near by these interfaces: the subnets of the chosen ones, and each of this machine's addresses.
fn subnets(interfaces: &[Interface], reach: Reach) -> Vec<Subnet> {
    let chosen = |ip: Ipv4Addr| {
        let with_it = interfaces.iter().find(|interface| interface.ip() == IpAddr::V4(ip));
        with_it.map(|interface| interface.name.as_str())
    };
    let device = reach.interface.map(chosen);
    let subnet = |interface: &Interface| {
        let (is_chosen, bits, width) = match &interface.addr {
            IfAddr::V4(four) => {
                let by_name = |name: Option<&str>| name == Some(&interface.name);
                (device.is_none_or(by_name), four.prefixlen, 32)
            }
            IfAddr::V6(six) => {
                let by_number = reach.index == 0 || interface.index == Some(reach.index);
                (by_number, six.prefixlen, 128)
            }
        };
        Subnet { of: interface.ip(), bits: if is_chosen { bits } else { width } }
    };
    interfaces.iter().map(subnet).collect()
}

/// How long what was read of the interfaces holds for strangers.
const READ_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(of: &str, bits: u8) -> Subnet {
        Subnet { of: of.parse().expect("an address"), bits }
    }

    #[test]
    fn a_subnet_has_the_addresses_with_its_first_bits() {
        let cases = [
            ("10.77.0.1", 24, "10.77.0.255", true),
            ("10.77.0.1", 24, "10.77.1.1", false),
            ("10.77.0.1", 32, "10.77.0.1", true),
            ("10.77.0.1", 32, "10.77.0.0", false),
            ("10.77.0.1", 0, "192.0.2.1", true),
            ("10.77.0.1", 200, "10.77.0.2", false),
            ("10.77.0.1", 0, "fd77::1", false),
            ("fd77::1", 64, "fd77::ffff:1", true),
            ("fd77::1", 64, "fd78::1", false),
            ("fd77::1", 0, "fd78::1", true),
        ];
        for (of, bits, address, near) in cases {
            let address = address.parse().expect("an address");
            assert_eq!(subnet(of, bits).has(address), near, "{address} in {of}/{bits}");
        }
    }

    #[test]
    fn loopback_is_near_by_itself_and_by_default_and_nothing_else_is_by_loopback() {
        let by = |interface| Neighbours::of(Reach { interface, ..Reach::default() });
        for neighbours in [by(None), by(Some(Ipv4Addr::LOCALHOST))] {
            assert!(neighbours.have(IpAddr::from([127, 0, 0, 9])));
            // Of a range that nobody has.
            assert!(!neighbours.have(IpAddr::from([240, 0, 0, 1])));
        }
        // Of an interface that is not there only this machine is near.
        assert!(!by(Some(Ipv4Addr::new(240, 0, 0, 1))).have(IpAddr::from([127, 0, 0, 9])));
    }
}
