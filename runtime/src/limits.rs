//! Every bound of the runtime, by name, with its reason.

use std::time::Duration;

/// Bounds of a node. The defaults suit a server with some gigabytes of memory; tests and small machines set less.
///
/// ```
/// use farcall::Limits;
///
/// let limits = Limits { window: 64, ..Limits::default() };
/// assert_eq!(limits.window, 64);
/// ```
///
/// A node takes a value with which nothing could work for the nearest one with which something can: a time of more than ten
/// years for ten years, so that [`Duration::MAX`] stands for never; a size of more than 2^40 for that; `ping_interval`,
/// `handshake_timeout`, `progress_timeout` and `reconnect_min` of less than a millisecond for a millisecond; `window`,
/// `send_buffer` and `handler_attempts` of 0 for 1.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest encoded arguments or result, in bytes. 16 MiB: larger data wants a stream or a file.
    pub message: usize,
    /// Calls of one session that are in flight or whose replies are not yet acknowledged. 1024 keeps a fast link busy
    /// and bounds what a server keeps for a client.
    pub window: usize,
    /// Bytes of unanswered requests that a client keeps for one server, and of partly received requests that a server
    /// keeps for one session. 64 MiB.
    pub request_bytes: usize,
    /// Bytes of saved replies that a server keeps for one session. 64 MiB: the window times `reply_reserve`.
    pub reply_bytes: usize,
    /// Bytes of reply budget that an admitted call is sure to have when its handler returns. 64 KiB.
    pub reply_reserve: usize,
    /// Bytes of saved replies and partly received requests that a server keeps for all sessions. 512 MiB.
    pub process_bytes: usize,
    /// Handlers of one node that run at the same time. 65,536.
    pub running_calls: usize,
    /// Encoded bytes that wait for one connection before senders wait. 1 MiB.
    pub send_buffer: usize,
    /// Connections that a node accepts. 16,384; more are closed at once.
    pub connections: usize,
    /// Connections that a node accepts from one host. 4,096, since many clients may share an address.
    pub connections_per_host: usize,
    /// Of these connections, those whose handshake is not finished. 1,024, so that silent peers take no more places than
    /// that.
    pub handshakes: usize,
    /// Sessions that a node keeps. 65,536; more are refused, since a session with records is never evicted.
    pub sessions: usize,
    /// Names in a node's registry. 65,536.
    pub names: usize,
    /// Objects of one server that a client uses at a time, and that a session knows. 4,096; one more is `Busy`. A place is free
    /// again when its proxies and calls are gone; over `udp://` only if all its calls were at most once.
    pub handles: usize,
    /// Objects without a name that are passed by reference to one peer and held there. 65,536; passing more is an error. As
    /// many of one peer's are held here; references to more cannot be called.
    pub exports: usize,
    /// Members of a group. 1,024: each is a call of its own, and each answer comes to the one who called.
    pub members: usize,
    /// How long a server keeps a session without a connection. 5 minutes: longer than a restart of a router.
    pub session_ttl: Duration,
    /// The deadline of a call that sets none; `None` waits for ever. 30 seconds.
    pub default_timeout: Option<Duration>,
    /// How long a connection may take until it has a session, from when it was accepted or made. 10 seconds.
    pub handshake_timeout: Duration,
    /// Silence after which a peer is asked whether it lives; after twice this the connection is given up. 15 seconds.
    pub ping_interval: Duration,
    /// How long a peer may take over one frame or one large message without progress, or accept no byte of ours. 30
    /// seconds.
    pub progress_timeout: Duration,
    /// First wait before a new attempt to connect; grows twofold, drawn at random below (full jitter). 50 milliseconds.
    pub reconnect_min: Duration,
    /// Longest wait before a new attempt to connect. 5 seconds.
    pub reconnect_max: Duration,
    /// How long a call whose deadline has passed waits for the server's word on whether it ran. 50 milliseconds.
    pub resolve_wait: Duration,
    /// How long a finished call may stay unacknowledged when no further call carries the acknowledgement. 50
    /// milliseconds.
    pub ack_delay: Duration,
    /// Finished calls out of order that are acknowledged at once. 32.
    pub ack_batch: usize,
    /// How long a server waits for the acknowledgement of a reply before it asks for it. 30 seconds.
    pub ack_solicit: Duration,
    /// Bytes of answers to control frames (pings, lookups, repeats, refusals) that wait for a peer beyond `send_buffer`
    /// before its connection is closed: such answers are short, and a peer that reads never lets them pile up. 4 MiB.
    pub control_backlog: usize,
    /// Largest datagram that is sent or accepted over `udp://`, in bytes of UDP payload. 1,200 passes nearly every path of
    /// the Internet; a network with larger packets, loopback for one, takes up to 65,000. At least 548.
    pub datagram: usize,
    /// Largest encoded arguments or result over `udp://`, in bytes, if `message` is not less. 1 MiB: what is larger is
    /// better sent over `tcp://`.
    pub datagram_message: usize,
    /// Bytes that the kernel is asked to hold for each UDP socket until they are read. 4 MiB; a kernel may grant less, and
    /// drops what does not fit.
    pub receive_buffer: usize,
    /// Clients over `udp://` that may open a link before they have shown that they receive at their address. 64; beyond,
    /// the server keeps nothing for a client until it has sent a cookie back.
    pub unvalidated_links: usize,
    /// Calls that a store keeps for a node as a client: unfinished ones, results that nobody has taken, and keys. 1,000,000.
    pub journal_rows: usize,
    /// Bytes of arguments and results of these. 1 GiB.
    pub journal_bytes: usize,
    /// Clients that a store knows as a server. 65,536.
    pub registrations: usize,
    /// Answers of exactly-once calls that a store keeps for one client. 65,536; more are not run until some are
    /// acknowledged.
    pub inbox_rows: usize,
    /// How often a handler of an exactly-once call may fail before the call is fenced. 3.
    pub handler_attempts: u32,
    /// How long a handler of an exactly-once call, or a transaction of the program, may keep the store's writer to itself.
    /// 1 second.
    pub handler_timeout: Duration,
    /// Pieces of work that may wait for a store's writer. 65,536; more are refused, and did not run.
    pub store_queue: usize,
    /// Calls that share one commit. 256.
    pub batch_calls: usize,
    /// For how long a batch takes in further calls before it commits. 5 milliseconds.
    pub batch_time: Duration,
    /// How long the end of a call may wait for a commit that somebody else needs. 10 milliseconds.
    pub settle_delay: Duration,
    /// For how long a connection's task looks for more, after something has come or left, before it sleeps. Zero: it sleeps
    /// at once. Some 100 microseconds make a call that is made alone several times faster where both ends have a core of
    /// their own, and keep those cores busy meanwhile; where both share one, it costs instead.
    pub busy_poll: Duration,
    /// For a bench only: whoever lost a datagram sends everything behind it again as well. The loss bench shows what
    /// that costs.
    #[doc(hidden)]
    pub go_back_n: bool,
}

impl Limits {
    /// What a node makes of them: sums and small multiples stay within their types, and nothing is tried again without a
    /// pause.
    pub(crate) fn usable(self) -> Limits {
        let size = |size: usize| size.min(LARGEST_SIZE);
        let time = |time: Duration| time.min(LONGEST_TIME);
        Limits {
            message: size(self.message),
            window: size(self.window).max(1),
            request_bytes: size(self.request_bytes),
            reply_bytes: size(self.reply_bytes),
            reply_reserve: size(self.reply_reserve),
            process_bytes: size(self.process_bytes),
            running_calls: size(self.running_calls),
            send_buffer: size(self.send_buffer).max(1),
            connections: size(self.connections),
            connections_per_host: size(self.connections_per_host),
            handshakes: size(self.handshakes),
            sessions: size(self.sessions),
            names: size(self.names),
            handles: size(self.handles),
            exports: size(self.exports),
            members: size(self.members),
            session_ttl: time(self.session_ttl),
            default_timeout: self.default_timeout,
            handshake_timeout: time(self.handshake_timeout).max(SHORTEST_TIME),
            ping_interval: time(self.ping_interval).max(SHORTEST_TIME),
            progress_timeout: time(self.progress_timeout).max(SHORTEST_TIME),
            reconnect_min: time(self.reconnect_min).max(SHORTEST_TIME),
            reconnect_max: time(self.reconnect_max),
            resolve_wait: time(self.resolve_wait),
            ack_delay: time(self.ack_delay),
            ack_batch: size(self.ack_batch),
            ack_solicit: time(self.ack_solicit),
            control_backlog: size(self.control_backlog),
            datagram: size(self.datagram),
            datagram_message: size(self.datagram_message),
            receive_buffer: size(self.receive_buffer),
            unvalidated_links: size(self.unvalidated_links),
            journal_rows: size(self.journal_rows),
            journal_bytes: size(self.journal_bytes),
            registrations: size(self.registrations),
            inbox_rows: size(self.inbox_rows),
            handler_attempts: self.handler_attempts.max(1),
            handler_timeout: time(self.handler_timeout),
            store_queue: size(self.store_queue),
            batch_calls: size(self.batch_calls),
            batch_time: time(self.batch_time),
            settle_delay: time(self.settle_delay),
            busy_poll: time(self.busy_poll),
            go_back_n: self.go_back_n,
        }
    }
}

/// Nobody has as many bytes or calls.
const LARGEST_SIZE: usize = if usize::BITS > 32 { 1 << 40 } else { usize::MAX >> 2 };
/// No process lives as long.
const LONGEST_TIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What tokio's timers tell apart.
const SHORTEST_TIME: Duration = Duration::from_millis(1);

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message: 16 << 20,
            window: 1024,
            request_bytes: 64 << 20,
            reply_bytes: 64 << 20,
            reply_reserve: 64 << 10,
            process_bytes: 512 << 20,
            running_calls: 65_536,
            send_buffer: 1 << 20,
            connections: 16_384,
            connections_per_host: 4096,
            handshakes: 1024,
            sessions: 65_536,
            names: 65_536,
            handles: 4096,
            exports: 65_536,
            members: 1024,
            session_ttl: Duration::from_secs(300),
            default_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            progress_timeout: Duration::from_secs(30),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            resolve_wait: Duration::from_millis(50),
            ack_delay: Duration::from_millis(50),
            ack_batch: 32,
            ack_solicit: Duration::from_secs(30),
            control_backlog: 4 << 20,
            datagram: 1200,
            datagram_message: 1 << 20,
            receive_buffer: 4 << 20,
            unvalidated_links: 64,
            journal_rows: 1_000_000,
            journal_bytes: 1 << 30,
            registrations: 65_536,
            inbox_rows: 65_536,
            handler_attempts: 3,
            handler_timeout: Duration::from_secs(1),
            store_queue: 65_536,
            batch_calls: 256,
            batch_time: Duration::from_millis(5),
            settle_delay: Duration::from_millis(10),
            busy_poll: Duration::ZERO,
            go_back_n: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable_as_they_are() {
        let limits = Limits::default();
        assert_eq!(format!("{:?}", limits.clone().usable()), format!("{limits:?}"));
    }

    #[test]
    fn a_wait_of_nothing_is_a_short_one() {
        let zero = Duration::ZERO;
        let limits =
            Limits { ping_interval: zero, reconnect_min: zero, window: 0, ..Limits::default() };
        let usable = limits.usable();
        assert_eq!((usable.ping_interval, usable.reconnect_min), (SHORTEST_TIME, SHORTEST_TIME));
        assert_eq!(usable.window, 1);
    }
}
