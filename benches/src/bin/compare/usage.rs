//! What both sides used so far: processor time, context switches, allocations.

use std::fs;
use std::ops::Sub;
use std::sync::atomic::Ordering;

use alloc_tracker::{Allocator, ProcessSpan, Session, ThreadSpan};
use rustix::time::{ClockId, clock_gettime};

use crate::wire::PASSED;

/// Counts per thread, with a few instructions for each allocation, so that what allocates much is not made slower.
#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// Totals so far, or the difference of two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: f64,
    pub(crate) switches: f64,
    /// Segments and datagrams that left, of all processes in this network namespace.
    pub(crate) packets: f64,
    /// Bytes that passed a proxy.
    pub(crate) wire: f64,
}

impl Usage {
    /// Of this process, and of the server's if that is another.
    pub(crate) fn now(server: Option<u32>) -> Usage {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let mut usage = Usage {
            cpu_ns: cpu.tv_sec as f64 * 1e9 + cpu.tv_nsec as f64,
            switches: threads("self").1,
            packets: packets(),
            wire: PASSED.load(Ordering::Relaxed) as f64,
        };
        if let Some(server) = server {
            let (cpu_ns, switches) = threads(&server.to_string());
            usage.cpu_ns += cpu_ns;
            usage.switches += switches;
        }
        usage
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns - before.cpu_ns,
            switches: self.switches - before.switches,
            packets: self.packets - before.packets,
            wire: self.wire - before.wire,
        }
    }
}

/// Allocations of all threads of this process, from when it is made.
pub(crate) struct Allocations {
    session: Session,
    span: ProcessSpan,
}

impl Allocations {
    pub(crate) fn begin() -> Allocations {
        let session = Session::new().no_stdout().no_file();
        let span = session.operation("calls").measure_process().iterations(1);
        Allocations { session, span }
    }

    pub(crate) fn end(self) -> f64 {
        drop(self.span);
        let report = self.session.to_report();
        report.operations().map(|(_, calls)| calls.total_allocations_count() as f64).sum()
    }
}

/// What this thread holds more than when it is made, at most until it ends. Of what only grows that is what it holds.
pub(crate) struct Heap {
    session: Session,
    span: ThreadSpan,
}

impl Heap {
    pub(crate) fn begin() -> Heap {
        let session = Session::new().no_stdout().no_file();
        let span = session.operation("connections").measure_thread().iterations(1);
        Heap { session, span }
    }

    /// Bytes.
    pub(crate) fn end(self) -> f64 {
        drop(self.span);
        let report = self.session.to_report();
        report.operations().filter_map(|(_, all)| all.peak_outstanding_bytes()).sum()
    }
}

/// Nanoseconds on a processor and context switches of all threads of a process.
fn threads(process: &str) -> (f64, f64) {
    let (mut cpu, mut switches) = (0.0, 0.0);
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return (0.0, 0.0) };
    for thread in threads.flatten() {
        // A thread can end between the two looks.
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let first = |text: &str| text.split_whitespace().next().map_or(0.0, number);
        cpu += first(&read("schedstat"));
        switches += read("status")
            .lines()
            .filter_map(|line| line.split_once("voluntary_ctxt_switches:"))
            .map(|(_, count)| number(count))
            .sum::<f64>();
    }
    (cpu, switches)
}

/// TCP segments and UDP datagrams sent.
fn packets() -> f64 {
    let text = fs::read_to_string("/proc/self/net/snmp").unwrap_or_default();
    let count = |protocol: &str, field: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
        let (names, values) = (lines.next()?, lines.next()?);
        let at = names.split_whitespace().position(|name| name == field)?;
        values.split_whitespace().nth(at).map(number)
    };
    count("Tcp:", "OutSegs").unwrap_or(0.0) + count("Udp:", "OutDatagrams").unwrap_or(0.0)
}

/// Resident bytes of a process.
pub(crate) fn resident(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).map_or(0.0, number);
    pages * rustix::param::page_size() as f64
}

fn number(text: &str) -> f64 {
    text.trim().parse().unwrap_or(0.0)
}
