//! farcall beside bare sockets and beside its peers, measured in one run.
//!
//! `cargo run --release -p farcall-benches --features peers --bin compare -- [options]`
//!
//! `-- --help` tells the options.
//!
//! Within a pass each case is measured of each system before the next case, and passes follow each other, so that what
//! disturbs the machine disturbs all. Medians over the passes are shown, and ratios to bare TCP of the same pass.

mod callers;
mod cases;
mod generated;
mod goals;
mod load;
mod lossy;
mod options;
mod overload;
mod report;
mod server;
mod spawned;
mod system;
mod systems;
mod usage;
mod wire;

use std::collections::HashSet;
use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

// The generated code names itself by this path.
pub(crate) use generated::calc_capnp;

use cases::{Case, How, Shape};
use load::Load;
use options::Options;
use report::Report;
use server::{Idle, Server};
use system::Entry;
use tokio::signal::unix::{SignalKind, signal};

fn main() {
    raise_file_limit();
    std::thread::spawn(end_by_signal);
    // A peer that fails leaves a gap in the tables and one line here.
    std::panic::set_hook(Box::new(|panic| eprintln!("\r{panic}")));
    let options = match Options::parse(std::env::args()) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            std::process::exit(ASKED_FOR_NOTHING);
        }
    };
    if options.help {
        println!("{}", options::usage());
        return;
    }
    let mut written = Ok(());
    if let Some(name) = &options.serve {
        server::serve(find(name), options.server_core());
    } else if let Some((name, address)) = &options.idle {
        idle_client(find(name), address, &options.idle_counts());
    } else {
        written = compare(&options);
    }
    let _ = std::fs::remove_dir_all(systems::farcall::folder());
    if let Err(error) = written {
        eprintln!("the tables cannot be written: {error}");
        std::process::exit(NOT_WRITTEN);
    }
}

fn find(name: &str) -> &'static Entry {
    systems::ALL.iter().find(|entry| entry.name == name).expect("a system of this program")
}

/// A peer's server takes these signals for itself, so that they would end nothing.
fn end_by_signal() {
    farcall_benches::runtime().block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
        let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    std::process::exit(ENDED_BY_SIGNAL);
}

const NOT_WRITTEN: i32 = 1;
const ENDED_BY_SIGNAL: i32 = 130;
const ASKED_FOR_NOTHING: i32 = 2;

/// 10,000 connections need as many files.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Fails if the tables cannot be written, which are printed in any case.
fn compare(options: &Options) -> io::Result<()> {
    let chosen: Vec<&Entry> = systems::ALL.iter().filter(|entry| options.wants(entry)).collect();
    let cases: Vec<&Case> =
        cases::ALL.iter().filter(|case| options.wants_case(case.name)).collect();
    let none = || -> Vec<Option<Server>> { chosen.iter().map(|_| None).collect() };
    let (mut servers, mut apart) = (none(), none());
    let mut report = Report::default();
    // What is left out of further passes.
    let mut slow = HashSet::new();
    for pass in 0..options.passes {
        for case in &cases {
            if let How::Own(measure) = case.how {
                if options.wants_farcall() {
                    eprint!("\r{:<60}", format!("{pass} {}", case.name));
                    measure(pass, options, &mut |name, value, sample| {
                        report.add(name, &case.values[value], sample);
                    });
                }
                continue;
            }
            let servers = match case.how {
                How::Apart(_) => &mut apart,
                _ => &mut servers,
            };
            for (entry, server) in chosen.iter().zip(servers) {
                let often = matches!(case.how, How::Carry(_) | How::Apart(_));
                let name = (case.name, entry.name);
                if (pass > 0 && !often) || !takes(entry, case) || slow.contains(&name) {
                    continue;
                }
                eprint!("\r{:<60}", format!("{pass} {} {}", case.name, entry.name));
                if let How::Idle = case.how {
                    idle(entry, case, options, &mut report);
                    continue;
                }
                let server = server.get_or_insert_with(|| match case.how {
                    How::Apart(_) => Server::start_process(entry, 1),
                    _ => Server::start(entry, options),
                });
                let began = farcall_benches::now();
                measure(entry, server, case, options, &mut report);
                if options.quick && began.elapsed() > SLOW {
                    slow.insert(name);
                }
            }
        }
    }
    eprint!("\r{:<60}\r", "");
    if options.json {
        report.json();
    } else {
        report.print();
    }
    options.write.as_ref().map_or(Ok(()), |page| report.write(page, options))
}

/// With `--quick`, what takes a system longer than this is measured of it once.
const SLOW: Duration = Duration::from_millis(700);

fn takes(entry: &Entry, case: &Case) -> bool {
    let shape = match case.how {
        How::Carry(shape) | How::Apart(shape) | How::Proxy(shape) | How::Trace(shape) => shape,
        How::Idle | How::Own(_) => {
            Shape { connections: 10_000, depth: 1, echo: None, beside: None }
        }
    };
    (entry.takes)(&shape.load(Duration::ZERO, Duration::ZERO, None))
}

fn measure(entry: &Entry, server: &Server, case: &Case, options: &Options, report: &mut Report) {
    let process = server.process();
    let load = |shape: Shape| shape.load(options.span / 4, options.span, process);
    match case.how {
        How::Carry(shape) | How::Apart(shape) => {
            let Some(outcome) = entry.carry(&server.address, load(shape)) else {
                return failed(entry, case);
            };
            for value in case.values {
                // What another process allocates is not counted.
                if !(value.name.contains("allocations") && process.is_some()) {
                    report.add(entry.name, value, (value.of)(&outcome, &shape));
                }
            }
        }
        How::Proxy(shape) => {
            let address = wire::through_proxy(&server.address, entry.datagrams);
            let Some(outcome) = entry.carry(&address, load(shape)) else {
                return failed(entry, case);
            };
            for value in case.values {
                report.add(entry.name, value, (value.of)(&outcome, &shape));
            }
        }
        How::Trace(shape) => {
            let processes: Vec<u32> = [std::process::id()].into_iter().chain(process).collect();
            let Some(trace) = wire::Trace::begin(&processes) else {
                return eprintln!("no `perf`, or it may not: system calls are not counted");
            };
            // All of it is counted, so all calls are.
            let load = Load { warm: Duration::ZERO, ..load(shape) };
            let outcome = entry.carry(&server.address, load);
            if let (Some(count), Some(outcome)) = (trace.end(), outcome) {
                report.add(entry.name, &case.values[0], outcome.per_call(count));
            }
        }
        How::Idle | How::Own(_) => {}
    }
}

fn failed(entry: &Entry, case: &Case) {
    eprintln!("\r{:<60}", format!("{} did not get through `{}`", entry.name, case.name));
}

/// Memory of both processes, by the number of connections: what their heaps hold and what became resident.
fn idle(entry: &Entry, case: &Case, options: &Options, report: &mut Report) {
    let mut server = Server::start_process(entry, 0);
    let mut client = Idle::start(entry, &server.address, options);
    let both = [client.id(), server.process().expect("a process")];
    let mut points = Vec::new();
    while let Some((count, heap)) = client.next_count() {
        let Some(server_heap) = server.heap() else { return };
        points.push((count, [heap, server_heap], both.map(usage::resident)));
    }
    let [(first, _, before), (some, heap, then), (many, _, after)] = points[..] else {
        return failed(entry, case);
    };
    let each = |from: f64, to: f64, count: usize| (to - from) / 1024.0 / count as f64;
    let all = [
        each(0.0, heap[0], some - first),
        each(0.0, heap[1], some - first),
        each(before[0], then[0], some - first),
        each(before[1], then[1], some - first),
        each(before.iter().sum(), after.iter().sum(), many - first),
    ];
    for (value, result) in case.values.iter().zip(all) {
        report.add(entry.name, value, result);
    }
}

/// Opens connections and tells the parent how many there are, as often as it asks.
fn idle_client(entry: &Entry, address: &str, counts: &[usize]) {
    let mut lines = std::io::stdin().lock().lines();
    entry.hold(address, counts, &mut |count, heap| {
        println!("{count} {heap}");
        std::io::stdout().flush().expect("the parent reads");
        let _ = lines.next();
    });
}
