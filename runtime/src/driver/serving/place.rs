//! A connection's place among those that a node accepts; free again when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::driver::lock;
use crate::driver::server::Server;

/// One accepted connection.
pub(in crate::driver) struct Place {
    server: Arc<Server>,
    task: u64,
    host: Box<str>,
    greeting: bool,
}

impl Place {
    /// A place, unless as many connections, of this host or in all, are there as the limits allow.
    pub(in crate::driver) fn take(server: &Arc<Server>, peer: &str) -> Option<Place> {
        let limits = &server.limits;
        let task = server.enter()?;
        let host: Box<str> = host(peer).into();
        // From here on the place gives back what it took, whether it is refused or used.
        let place = Place { server: server.clone(), task, host: host.clone(), greeting: true };
        let all = add(&server.connections);
        let greeting = add(&server.handshakes);
        let of_host = {
            let mut hosts = lock(&server.hosts);
            let count = hosts.entry(host).or_insert(0);
            *count += 1;
            *count
        };
        let fits = all <= limits.connections
            && greeting <= limits.handshakes
            && of_host <= limits.connections_per_host;
        fits.then_some(place)
    }

    /// The number of the connection's task.
    pub(super) fn task(&self) -> u64 {
        self.task
    }

    /// The handshake is over.
    pub(in crate::driver) fn greeted(&mut self) {
        if std::mem::take(&mut self.greeting) {
            self.server.handshakes.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.greeted();
        let mut hosts = lock(&self.server.hosts);
        if let Some(count) = hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&self.host);
            }
        }
        drop(hosts);
        self.server.leave(self.task);
        self.server.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One more; returns how many there are.
fn add(counter: &AtomicUsize) -> usize {
    counter.fetch_add(1, Ordering::AcqRel) + 1
}

/// A peer's address without its port.
fn host(peer: &str) -> &str {
    peer.rsplit_once([':', '#']).map_or(peer, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_port_does_not_belong_to_the_host() {
        assert_eq!(host("127.0.0.1:50123"), "127.0.0.1");
        assert_eq!(host("[::1]:80"), "[::1]");
        assert_eq!(host("mem://bank#7"), "mem://bank");
    }
}
