//! What goes wrong by itself in a simulated network, and how often it did.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::rng::Rng;

/// What goes wrong by itself. Every number is drawn from the run's seed; times are rounded up to milliseconds.
///
/// ```
/// use farcall::sim::Faults;
///
/// let faults = Faults { cut_one_in: 20, ..Faults::none() };
/// assert_eq!(faults.stall_one_in, 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// How long bytes are on their way. Those of one connection never overtake each other.
    pub delay: RangeInclusive<Duration>,
    /// Of so many writes one breaks its connection, for both sides: of the bytes in flight any first part arrives, be
    /// it the middle of a frame. 0 for never, as below.
    pub cut_one_in: u32,
    /// Of so many writes one loses its connection half: one side is told, the other hears nothing more, for ever. What
    /// was on its way to the other may still arrive, even beside the first bytes of the connection that is made next.
    pub half_open_one_in: u32,
    /// Of so many writes one is held up, and all behind it.
    pub stall_one_in: u32,
    /// How long it is held up.
    pub stall: RangeInclusive<Duration>,
    /// Of so many attempts to connect one is refused although somebody listens.
    pub refuse_one_in: u32,
    /// Of so many datagrams one is lost. Those that are not may overtake each other, since each has its own `delay`,
    /// and one in `stall_one_in` is held up alone.
    pub lose_one_in: u32,
    /// Of so many datagrams one arrives twice; the second copy may come as late as 200 delays after.
    pub repeat_one_in: u32,
    /// Of so many datagrams one arrives with a bit changed.
    pub corrupt_one_in: u32,
    /// Datagrams with more bytes vanish without a word; 0 if all pass. Paths of the Internet carry 1,200 nearly
    /// everywhere and 548 everywhere.
    pub largest_datagram: usize,
}

impl Faults {
    /// None: bytes take a millisecond, and all arrive.
    #[must_use]
    pub fn none() -> Faults {
        let millisecond = Duration::from_millis(1);
        Faults {
            delay: millisecond..=millisecond,
            cut_one_in: 0,
            half_open_one_in: 0,
            stall_one_in: 0,
            stall: millisecond..=millisecond,
            refuse_one_in: 0,
            lose_one_in: 0,
            repeat_one_in: 0,
            corrupt_one_in: 0,
            largest_datagram: 0,
        }
    }

    /// A bad network: a cut in 30 writes, a loss in 10 datagrams, and some of everything else.
    #[must_use]
    pub fn rough() -> Faults {
        Faults {
            delay: Duration::from_millis(1)..=Duration::from_millis(10),
            cut_one_in: 30,
            half_open_one_in: 100,
            stall_one_in: 50,
            stall: Duration::from_millis(20)..=Duration::from_millis(500),
            refuse_one_in: 10,
            lose_one_in: 10,
            repeat_one_in: 10,
            corrupt_one_in: 50,
            largest_datagram: 0,
        }
    }

    /// How long the next bytes are on their way.
    pub(super) fn draw_delay(&self, rng: &mut Rng) -> Duration {
        draw(rng, &self.delay)
    }

    /// How long they are held up on top of that, mostly not at all.
    pub(super) fn draw_stall(&self, rng: &mut Rng) -> Duration {
        if one_in(rng, self.stall_one_in) { draw(rng, &self.stall) } else { Duration::ZERO }
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

/// What happened on the network of a run, so that a test can see that it was not idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkCounts {
    /// Connections that were made.
    pub connections: u64,
    /// Attempts to connect that were refused, by chance or because nobody listened.
    pub refused: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Connections that were cut.
    pub cuts: u64,
    /// Of these, those that lost bytes in flight.
    pub torn: u64,
    /// Connections of which one side was told nothing.
    pub half_open: u64,
    /// Writes that were held up.
    pub stalls: u64,
    /// Nodes that crashed or lost their power.
    pub crashes: u64,
    /// Nodes that were started.
    pub starts: u64,
    /// Datagrams that were sent. What went to a group counts once for each member.
    pub datagrams: u64,
    /// Datagrams that were sent to a group with a member or more.
    pub multicasts: u64,
    /// Of the [`datagrams`](NetworkCounts::datagrams), those that were lost; [`repeated`](NetworkCounts::repeated) are
    /// those that came twice, [`corrupted`](NetworkCounts::corrupted) those that came changed.
    pub lost: u64,
    /// See [`lost`](NetworkCounts::lost).
    pub repeated: u64,
    /// See [`lost`](NetworkCounts::lost).
    pub corrupted: u64,
    /// Sockets that were seen at another address.
    pub rebound: u64,
}

impl NetworkCounts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &NetworkCounts) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.cuts += other.cuts;
        self.torn += other.torn;
        self.half_open += other.half_open;
        self.stalls += other.stalls;
        self.crashes += other.crashes;
        self.starts += other.starts;
        self.datagrams += other.datagrams;
        self.multicasts += other.multicasts;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.corrupted += other.corrupted;
        self.rebound += other.rebound;
    }
}

/// True once in so many times; never for 0.
pub(super) fn one_in(rng: &mut Rng, times: u32) -> bool {
    times > 0 && rng.below(u64::from(times)) == 0
}

fn draw(rng: &mut Rng, range: &RangeInclusive<Duration>) -> Duration {
    let nanoseconds = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (low, high) = (nanoseconds(range.start()), nanoseconds(range.end()));
    Duration::from_nanos(rng.between(low, high.max(low)))
}
