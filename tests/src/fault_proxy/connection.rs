//! One proxied connection: two directions, each a loop that reads frames, asks what is to happen to
//! them, and writes what is left.

use std::collections::VecDeque;
use std::future::pending;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time;

use super::frame::{Frame, Splitter};
use super::{Direction, Fault, Faults, FrameKind, Orders, Shared, Trap, lock};
use crate::random::Random;

/// Serves one client until it, its server, or a fault ends the connection. `born` are the orders
/// when it was accepted: only what changed since concerns it.
pub(super) async fn run(client: TcpStream, number: u64, born: Orders, shared: &Shared) {
    let upstream = lock(&shared.settings).upstream;
    let connected = tokio::select! {
        connected = TcpStream::connect(upstream) => connected,
        () = cut_ordered(shared, born) => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    let Ok(server) = connected else {
        let _ = client.set_zero_linger();
        drop(client);
        shared.count(|counts| counts.refused += 1);
        return;
    };
    shared.count(|counts| {
        counts.accepted += 1;
        counts.open += 1;
    });
    let ending = forward(client, server, number, born, shared).await;
    shared.count(|counts| {
        counts.open -= 1;
        counts.cuts += u64::from(ending != Ending::ByPeers);
        counts.cuts_in_frame += u64::from(matches!(ending, Ending::Cut { in_frame: true, .. }));
    });
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The client or the server closed or broke it.
    ByPeers,
    /// A fault.
    Cut { in_frame: bool, reset: bool },
}

/// Resolves when every connection of the time of `born` is to be cut.
async fn cut_ordered(shared: &Shared, born: Orders) {
    let mut orders = shared.orders.subscribe();
    if orders.wait_for(|now| now.cuts != born.cuts).await.is_err() {
        pending::<()>().await;
    }
}

/// Moves bytes both ways until the connection ends; both sockets are closed when it returns.
async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    number: u64,
    born: Orders,
    shared: &Shared,
) -> Ending {
    let (client_nodelay, server_nodelay) = (client.set_nodelay(true), server.set_nodelay(true));
    if client_nodelay.and(server_nodelay).is_err() {
        return Ending::ByPeers;
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut up = Pump::new(Direction::ToServer, from_client, to_server, number, born, shared);
    let mut down = Pump::new(Direction::ToClient, from_server, to_client, number, born, shared);
    let ending = tokio::select! {
        () = cut_ordered(shared, born) => Ending::Cut { in_frame: false, reset: false },
        ended = async { tokio::try_join!(up.run(), down.run()) } => match ended {
            Ok(_) => Ending::ByPeers,
            Err(ending) => ending,
        },
    };
    if let Ending::Cut { reset: true, .. } = ending {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    } else {
        // What was written arrives before the end, even if unread input turns the close into a
        // reset.
        let _ = client.shutdown().await;
        let _ = server.shutdown().await;
    }
    ending
}

/// One direction of a connection.
struct Pump<'a> {
    direction: Direction,
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    shared: &'a Shared,
    orders: watch::Receiver<Orders>,
    born: Orders,
    splitter: Splitter,
    /// The stream is not made of frames: it passes as it is.
    raw: bool,
    /// Frames that leave in the next write.
    ready: Vec<u8>,
    ready_frames: u64,
    /// The CALLs that could be replayed, oldest first.
    calls: VecDeque<Vec<u8>>,
    number: u64,
    random: Random,
}

/// A fault with the numbers that belong to it.
struct Verdict {
    fault: Fault,
    /// Chooses the CALL to replay.
    pick: u64,
    /// A cut resets the connection instead of closing it.
    reset: bool,
}

impl<'a> Pump<'a> {
    fn new(
        direction: Direction,
        reader: ReadHalf<'a>,
        writer: WriteHalf<'a>,
        number: u64,
        born: Orders,
        shared: &'a Shared,
    ) -> Pump<'a> {
        Pump {
            direction,
            reader,
            writer,
            shared,
            orders: shared.orders.subscribe(),
            born,
            splitter: Splitter::default(),
            raw: false,
            ready: Vec::new(),
            ready_frames: 0,
            calls: VecDeque::new(),
            number,
            random: Random::default(),
        }
    }

    /// Forwards until the sender closes its side, and then closes the receiver's.
    async fn run(&mut self) -> Result<(), Ending> {
        loop {
            while !self.raw
                && let Some(frame) = self.splitter.next()
            {
                self.count_frame();
                match self.judge(&frame) {
                    None => self.pass(frame),
                    Some(verdict) => self.inflict(verdict, frame).await?,
                }
            }
            self.raw |= self.splitter.is_hopeless();
            if self.raw {
                self.ready.append(&mut self.splitter.take_rest());
            }
            self.flush().await?;
            if self.fill().await? == 0 {
                self.ready = self.splitter.take_rest();
                self.flush().await?;
                return self.writer.shutdown().await.map_err(by_peers);
            }
        }
    }

    /// What happens to this frame: the oldest trap that fits, else what the seed says.
    fn judge(&mut self, frame: &Frame) -> Option<Verdict> {
        let mut settings = lock(&self.shared.settings);
        if let Some(position) = settings.traps.iter().position(|trap| self.fits(trap, frame)) {
            let fault = settings.traps.remove(position).fault;
            return Some(Verdict { fault, pick: 0, reset: false });
        }
        let faults = settings.faults;
        drop(settings);
        self.draw(&faults, frame)
    }

    fn fits(&self, trap: &Trap, frame: &Frame) -> bool {
        trap.direction == self.direction
            && trap.kind.is_none_or(|kind| kind == frame.kind)
            && match trap.fault {
                Fault::Repeat => frame.kind.is_repeatable(),
                Fault::Replay => frame.kind == FrameKind::CALL && !self.calls.is_empty(),
                _ => true,
            }
    }

    fn draw(&mut self, faults: &Faults, frame: &Frame) -> Option<Verdict> {
        let stream = self.number * 2 + u64::from(self.direction == Direction::ToClient);
        self.random.seed(faults.seed, stream);
        let random = &mut self.random;
        let fault = if random.one_in(faults.cut_one_in) {
            let bytes = random.below(frame.bytes.len() as u64) as usize;
            if random.one_in(2) { Fault::CutInFrame { bytes } } else { Fault::CutBehind }
        } else if random.one_in(faults.lose_one_in) {
            Fault::Lose { lasts: faults.loss_lasts }
        } else if frame.kind.is_repeatable() && random.one_in(faults.repeat_one_in) {
            let is_later_call = frame.kind == FrameKind::CALL && !self.calls.is_empty();
            if is_later_call && random.one_in(2) { Fault::Replay } else { Fault::Repeat }
        } else if random.one_in(faults.delay_one_in) {
            let most = faults.delay_at_most.as_micros() as u64;
            Fault::Delay { lasts: time::Duration::from_micros(random.below(most + 1)) }
        } else {
            return None;
        };
        Some(Verdict { fault, pick: random.draw(), reset: random.one_in(2) })
    }

    async fn inflict(&mut self, verdict: Verdict, frame: Frame) -> Result<(), Ending> {
        match verdict.fault {
            Fault::CutInFrame { bytes } => {
                let kept = bytes.min(frame.bytes.len().saturating_sub(1));
                self.ready.extend_from_slice(&frame.bytes[..kept]);
                self.flush().await?;
                Err(Ending::Cut { in_frame: kept > 0, reset: verdict.reset })
            }
            Fault::CutBehind => {
                self.pass(frame);
                self.flush().await?;
                Err(Ending::Cut { in_frame: false, reset: verdict.reset })
            }
            Fault::Lose { lasts } => {
                self.flush().await?;
                self.shared.count(|counts| counts.lost_frames += 1);
                let _ = time::timeout(lasts, self.swallow()).await;
                Err(Ending::Cut { in_frame: false, reset: verdict.reset })
            }
            Fault::Repeat => {
                self.shared.count(|counts| counts.repeated += 1);
                self.ready.extend_from_slice(&frame.bytes);
                self.pass(frame);
                Ok(())
            }
            Fault::Replay => {
                let position = verdict.pick % self.calls.len().max(1) as u64;
                let older = self.calls.get(position as usize).cloned().unwrap_or_default();
                self.shared.count(|counts| counts.replayed += 1);
                self.pass(frame);
                self.ready.extend_from_slice(&older);
                Ok(())
            }
            Fault::Delay { lasts } => {
                self.flush().await?;
                self.shared.count(|counts| counts.delayed += 1);
                time::sleep(lasts).await;
                self.pass(frame);
                Ok(())
            }
        }
    }

    fn pass(&mut self, frame: Frame) {
        self.ready.extend_from_slice(&frame.bytes);
        self.ready_frames += 1;
        if frame.kind == FrameKind::CALL && frame.bytes.len() <= MAX_RECORDED_BYTES {
            if self.calls.len() == MAX_RECORDED_CALLS {
                self.calls.pop_front();
            }
            self.calls.push_back(frame.bytes);
        }
    }

    fn count_frame(&self) {
        self.shared.count(|counts| match self.direction {
            Direction::ToServer => counts.frames_from_client += 1,
            Direction::ToClient => counts.frames_from_server += 1,
        });
    }

    /// Writes what is ready, unless the connection is stalled or half-open.
    async fn flush(&mut self) -> Result<(), Ending> {
        self.follow_orders().await;
        self.writer.write_all(&self.ready).await.map_err(by_peers)?;
        self.ready.clear();
        self.ready_frames = 0;
        Ok(())
    }

    /// Reads more; 0 is the sender's end.
    async fn fill(&mut self) -> Result<usize, Ending> {
        loop {
            self.follow_orders().await;
            let buffer = self.splitter.buffer();
            buffer.reserve(READ_BYTES);
            tokio::select! {
                read = self.reader.read_buf(buffer) => return read.map_err(by_peers),
                Ok(()) = self.orders.changed() => {}
            }
        }
    }

    /// Waits while the connection is stalled; swallows for ever once it is half-open.
    async fn follow_orders(&mut self) {
        let half_opens = self.born.half_opens;
        let acts = |now: &Orders| !now.stalled || now.half_opens != half_opens;
        let half_open = match self.orders.wait_for(acts).await {
            Ok(now) => now.half_opens != half_opens,
            Err(_) => false,
        };
        if half_open {
            self.shared.count(|counts| counts.lost_frames += self.ready_frames);
            self.swallow().await;
        }
    }

    /// Reads and forgets. Never ends: not even the sender's end is passed on.
    async fn swallow(&mut self) {
        loop {
            while self.splitter.next().is_some() {
                self.shared.count(|counts| counts.lost_frames += 1);
            }
            if self.splitter.is_hopeless() {
                self.splitter.take_rest();
            }
            let buffer = self.splitter.buffer();
            buffer.reserve(READ_BYTES);
            if !matches!(self.reader.read_buf(buffer).await, Ok(1..)) {
                pending::<()>().await;
            }
        }
    }
}

fn by_peers(_: io::Error) -> Ending {
    Ending::ByPeers
}

/// CALLs that each connection remembers for replays.
const MAX_RECORDED_CALLS: usize = 64;

/// A larger CALL is not remembered.
const MAX_RECORDED_BYTES: usize = 64 * 1024;

/// Room for one read.
const READ_BYTES: usize = 16 * 1024;
