//! What is measured of each system.

use std::time::Duration;

use crate::load::{Load, Outcome};
use crate::options::Options;
use crate::{lossy, overload, spawned};

/// A measurement, with the values that come of it.
pub(crate) struct Case {
    /// How it is called in `--case`.
    pub(crate) name: &'static str,
    pub(crate) how: How,
    pub(crate) values: &'static [Value],
}

/// How a measurement is made.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// A load is carried, in each pass.
    Carry(Shape),
    /// A load is carried in each pass, by a server in a process and on a core of its own.
    Apart(Shape),
    /// A load is carried once, through a proxy that counts bytes.
    Proxy(Shape),
    /// A load is carried once, while `perf` counts system calls.
    Trace(Shape),
    /// Many connections are opened and left alone, in processes of their own.
    Idle,
    /// Something that only farcall has, in each pass; tells a row, the index of a value and a sample.
    Own(fn(usize, &Options, Tell<'_>)),
}

/// Tells a sample of a row's value with this index.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(&'static str, usize, f64);

/// A load without its durations.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) depth: usize,
    pub(crate) echo: Option<usize>,
    pub(crate) beside: Option<usize>,
}

impl Shape {
    pub(crate) fn load(self, warm: Duration, span: Duration, server: Option<u32>) -> Load {
        let Shape { connections, depth, echo, beside } = self;
        Load { connections, depth, echo, beside, warm, span, server }
    }
}

/// One column.
#[derive(Clone, Copy)]
pub(crate) struct Value {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) of: fn(&Outcome, &Shape) -> f64,
}

const fn calls(connections: usize, depth: usize) -> Shape {
    Shape { connections, depth, echo: None, beside: None }
}

const fn echoes(size: usize) -> Shape {
    Shape { connections: 1, depth: 16, echo: Some(size), beside: None }
}

/// 16 MiB messages, less than what farcall and others refuse with what is around them.
const LARGE: usize = (16 << 20) - 1024;

const RATE: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.calls as f64 / outcome.seconds;
const BYTES: fn(&Outcome, &Shape) -> f64 = |outcome, shape| {
    let size = shape.echo.unwrap_or_default() as f64;
    outcome.calls as f64 * size / outcome.seconds / 1e6
};
const CPU: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.per_call(outcome.usage.cpu_ns);
const ALLOCATIONS: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.per_call(outcome.allocations);
const SWITCHES: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.per_call(outcome.usage.switches);
const PACKETS: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.per_call(outcome.usage.packets);
const P50: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.percentile(0.5);
const P99: fn(&Outcome, &Shape) -> f64 = |outcome, _| outcome.percentile(0.99);

const fn value(name: &'static str, unit: &'static str, of: fn(&Outcome, &Shape) -> f64) -> Value {
    Value { name, unit, of }
}

/// All, in the order of a pass.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "one",
        how: How::Carry(calls(1, 1)),
        values: &[
            value("one call, p50", "ns", P50),
            value("one call, p99", "ns", P99),
            value("one call, CPU", "ns", CPU),
            value("one call, allocations", "", ALLOCATIONS),
            value("one call, context switches", "", SWITCHES),
            value("one call, packets", "", PACKETS),
        ],
    },
    Case {
        name: "64",
        how: How::Carry(calls(1, 64)),
        values: &[
            value("64 in flight", "calls/s", RATE),
            value("64 in flight, CPU", "ns", CPU),
            value("64 in flight, allocations", "", ALLOCATIONS),
            value("64 in flight, context switches", "", SWITCHES),
            value("64 in flight, packets", "", PACKETS),
        ],
    },
    Case {
        name: "1024",
        how: How::Carry(calls(1, 1024)),
        values: &[
            value("1,024 in flight", "calls/s", RATE),
            value("1,024 in flight, CPU", "ns", CPU),
        ],
    },
    Case {
        name: "16x64",
        how: How::Carry(calls(16, 64)),
        values: &[
            value("16 connections of 64", "calls/s", RATE),
            value("16 connections of 64, CPU", "ns", CPU),
        ],
    },
    Case {
        name: "1KiB",
        how: How::Carry(echoes(1 << 10)),
        values: &[value("echo of 1 KiB", "MB/s", BYTES)],
    },
    Case {
        name: "64KiB",
        how: How::Carry(echoes(64 << 10)),
        values: &[value("echo of 64 KiB", "MB/s", BYTES)],
    },
    Case {
        name: "1MiB",
        how: How::Carry(echoes(1 << 20)),
        values: &[value("echo of 1 MiB", "MB/s", BYTES)],
    },
    Case {
        name: "beside",
        how: How::Carry(Shape { beside: Some(LARGE), ..calls(1, 1) }),
        values: &[value("beside 16 MiB, p50", "ns", P50), value("beside 16 MiB, p99", "ns", P99)],
    },
    Case {
        name: "wire",
        how: How::Proxy(calls(1, 1)),
        values: &[value("one call, wire", "B", |outcome, _| outcome.per_call(outcome.usage.wire))],
    },
    Case {
        name: "syscalls",
        how: How::Trace(calls(1, 1)),
        values: &[value("one call, system calls", "", RATE)],
    },
    Case {
        name: "syscalls64",
        how: How::Trace(calls(1, 64)),
        values: &[value("64 in flight, system calls", "", RATE)],
    },
    Case {
        name: "apart",
        how: How::Apart(calls(1, 1)),
        values: &[value("two processes, p50", "ns", P50), value("two processes, p99", "ns", P99)],
    },
    Case {
        name: "apart64",
        how: How::Apart(calls(1, 64)),
        values: &[value("two processes, 64 in flight", "calls/s", RATE)],
    },
    Case {
        name: "idle",
        how: How::Idle,
        values: &[
            value("idle connection, client's heap", "KiB", RATE),
            value("idle connection, server's heap", "KiB", RATE),
            value("idle connection, client", "KiB", RATE),
            value("idle connection, server", "KiB", RATE),
            value("many idle sessions, each", "KiB", RATE),
        ],
    },
    Case {
        name: "overload",
        how: How::Own(overload::measure),
        values: &[
            value("overload, peak", "calls/s", RATE),
            value("overload, offered", "calls/s", RATE),
            value("overload, goodput", "calls/s", RATE),
            value("overload, goodput of peak", "", RATE),
            value("overload, p99", "ms", RATE),
            value("overload, not executed", "% of the rest", RATE),
        ],
    },
    Case {
        name: "loss",
        how: How::Own(lossy::measure),
        values: &[
            value("goodput, 0 % lost", "Mbit/s", RATE),
            value("goodput, 0.1 % lost", "Mbit/s", RATE),
            value("goodput, 1 % lost", "Mbit/s", RATE),
        ],
    },
    Case {
        name: "spawn",
        how: How::Own(spawned::measure),
        values: &[
            value("beside computing, p50", "µs", RATE),
            value("beside computing, p99", "µs", RATE),
            value("beside computing, calls", "calls/s", RATE),
        ],
    },
];

/// The tables of the page: a title and the columns.
pub(crate) const TABLES: &[(&str, &[(&str, &str)])] = &[
    (
        "One call at a time",
        &[
            ("one call, p50", "p50"),
            ("one call, p99", "p99"),
            ("beside 16 MiB, p99", "p99 beside 16 MiB messages"),
        ],
    ),
    (
        "What one call at a time costs",
        &[
            ("one call, CPU", "CPU time"),
            ("one call, allocations", "allocations"),
            ("one call, system calls", "system calls"),
            ("one call, context switches", "context switches"),
            ("one call, packets", "packets"),
            ("one call, wire", "bytes on the wire"),
        ],
    ),
    (
        "Many calls at a time",
        &[
            ("64 in flight", "64 in flight"),
            ("1,024 in flight", "1,024 in flight"),
            ("16 connections of 64", "16 connections, 64 each"),
        ],
    ),
    (
        "What a call costs with 64 in flight",
        &[
            ("64 in flight, CPU", "CPU time"),
            ("64 in flight, allocations", "allocations"),
            ("64 in flight, system calls", "system calls"),
            ("64 in flight, context switches", "context switches"),
            ("64 in flight, packets", "packets"),
        ],
    ),
    (
        "Echoes, 16 in flight",
        &[("echo of 1 KiB", "1 KiB"), ("echo of 64 KiB", "64 KiB"), ("echo of 1 MiB", "1 MiB")],
    ),
    (
        "Two processes, each with a core",
        &[
            ("two processes, p50", "one call, p50"),
            ("two processes, p99", "one call, p99"),
            ("two processes, 64 in flight", "64 in flight"),
        ],
    ),
    (
        "Memory of an idle connection",
        &[
            ("idle connection, client's heap", "client's heap"),
            ("idle connection, server's heap", "server's heap"),
            ("idle connection, client", "client, resident"),
            ("idle connection, server", "server, resident"),
            ("many idle sessions, each", "both, resident, of many"),
        ],
    ),
    (
        "Three times as many calls as can be served",
        &[
            ("overload, peak", "peak"),
            ("overload, offered", "offered"),
            ("overload, goodput", "answered in time"),
            ("overload, goodput of peak", "of peak"),
            ("overload, p99", "p99 of these"),
            ("overload, not executed", "known not to have run"),
        ],
    ),
    (
        "Messages of 1 MiB over UDP that loses datagrams",
        &[
            ("goodput, 0 % lost", "0 % lost"),
            ("goodput, 0.1 % lost", "0.1 % lost"),
            ("goodput, 1 % lost", "1 % lost"),
        ],
    ),
    (
        "Small calls beside a method that computes for 2 ms",
        &[
            ("beside computing, p50", "p50"),
            ("beside computing, p99", "p99"),
            ("beside computing, calls", "calls"),
        ],
    ),
];
